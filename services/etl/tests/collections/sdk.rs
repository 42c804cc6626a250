//! Google's own Python client, against the simulator: it pages the same rows as ours.

use anyhow::{Context as _, Result, ensure};
use etl::collections::bigquery::{Client, Parameter, decode};
use serde_json::{Value, json};
use simulators::bigquery::BigQuery;

use crate::{data::Dice, sync};

const TABLE: &str = "voicebot_gestiones";
const DESDE: &str = "2026-09-10T00:00:00+00:00";
const HASTA: &str = "2026-09-25T00:00:00+00:00";

/// All rows of a query, page by page, moments as Python spells them.
async fn ours(client: &Client, id: &str, sql: &str, parameters: &[Parameter]) -> Result<Vec<Value>> {
    let location = client.insert(id, sql, parameters).await?.location;
    let (mut rows, mut token) = (Vec::new(), None);
    loop {
        let page = client.page(id, location.as_deref(), token.as_deref(), |fields, rows| {
            rows.iter().map(|row| decode(fields, row)).collect::<Result<Vec<_>, _>>()
        });
        let page = page.await?;
        for mut row in page.rows? {
            let at: chrono::DateTime<chrono::Utc> = row["date"].as_str().context("a moment")?.parse()?;
            row["date"] = at.to_rfc3339().into();
            rows.push(Value::Object(row));
        }
        token = page.next;
        if token.is_none() {
            return Ok(rows);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn googles_own_client_pages_the_same_rows() -> Result<()> {
    stack::install_tls();
    let source = BigQuery::start()?;
    sync::fill(&source, &mut Dice(7));
    let python = stack::home().join("api/bin/python");
    ensure!(python.exists(), "{} is missing: deploy/native/install.sh tests", python.display());
    let input = json!({ "url": source.url(), "table": TABLE, "page": 41, "desde": DESDE, "hasta": HASTA });
    let output = tokio::process::Command::new(python)
        .args(["-c", include_str!("bigquery_client.py")])
        .arg(input.to_string())
        .output()
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let client = sync::client(&source, None)?;
    let sql = format!("SELECT * FROM `proyecto.cobranzas.{TABLE}`");
    let all = ours(&client, "all", &sql, &[]).await?;
    ensure!(all.len() == 400 && said["all"] == json!(all), "{} rows, {}", all.len(), said["all"]);
    let moment =
        |name, value: &str| Parameter { name, kind: "TIMESTAMP".to_owned(), value: value.to_owned() };
    let bounds = [moment("desde", DESDE), moment("hasta", HASTA)];
    let sql = format!("{sql} WHERE `date` >= @desde AND `date` < @hasta");
    let between = ours(&client, "between", &sql, &bounds).await?;
    ensure!(!between.is_empty() && between.len() < all.len() && said["between"] == json!(between), "{said}");
    Ok(())
}
