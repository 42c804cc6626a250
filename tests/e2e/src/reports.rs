//! What the journeys of reports share.

use crate::Scene;
use anyhow::{Context, Result, ensure};
use chrono::{NaiveDate, Utc};
use sea_orm::sqlx;
use serde_json::Value;
use stack::platform::{Client, Publisher};
use stack::services::REPORT;
use std::time::Duration;

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(90);

/// The day that campaigns are of.
pub fn today() -> NaiveDate {
    Utc::now().date_naive()
}

/// A day as clients write it.
pub fn slashed(day: NaiveDate) -> String {
    day.format("%Y/%m/%d").to_string()
}

/// A platform with report, the publisher of events, and somebody who may ask for reports.
///
/// # Errors
/// Where something doesn't start.
pub async fn scene(label: &str) -> Result<(Scene, Publisher, Client)> {
    let scene =
        Scene::start(label, |options| options.workers(0).with(&REPORT, 1).env("REPORT_LEASE_SECONDS", 5))
            .await?;
    let publisher = Publisher::new(&scene.platform.place);
    let operator = scene.platform.user("operator", None).await?;
    Ok((scene, publisher, operator))
}

/// Waits until the tables have so many rows.
///
/// # Errors
/// Past the limit.
pub async fn arrived(scene: &Scene, rows: i64) -> Result<()> {
    let pool = scene.platform.reports().await?;
    stack::wait::until("all rows should be in the tables", LIMIT, async || {
        let count =
            sqlx::query_scalar::<_, i64>("select count(*) from ta_sms_detalle").fetch_one(&pool).await;
        count.is_ok_and(|count| count == rows)
    })
    .await
}

/// Asks for a report and waits for its end.
///
/// # Errors
/// Where it is refused, or past the limit.
pub async fn report(client: &Client, request: &Value) -> Result<Value> {
    let asked = client.post("/api/v1/reports", request).await?;
    ensure!(asked.status == 202, "{asked}");
    finished(client, asked.body["id"].as_str().context("an id")?).await
}

/// Waits for the end of a run.
///
/// # Errors
/// Past the limit.
pub async fn finished(client: &Client, id: &str) -> Result<Value> {
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let run = client.get(&format!("/api/v1/reports/{id}")).await?;
        ensure!(run.status == 200, "{run}");
        if run.body["estado"] == "COMPLETADO" || run.body["estado"] == "ERROR" {
            return Ok(run.body);
        }
        ensure!(std::time::Instant::now() < end, "not finished: {run}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The file of a campaign.
///
/// # Errors
/// Where it isn't there.
pub async fn file(client: &Client, run: &Value, campaign: i64) -> Result<Vec<u8>> {
    let id = run["id"].as_str().context("an id")?;
    client.download(&format!("/api/v1/reports/{id}/files/{campaign}/download?directo=true")).await
}

/// The campaigns of a day.
///
/// # Errors
/// Where they can't be listed.
pub async fn ids(client: &Client, day: NaiveDate) -> Result<Vec<i64>> {
    let page = client.get(&format!("/campania/list/?fecha={}&page_size=100", slashed(day))).await?;
    ensure!(page.status == 200, "{page}");
    let items = page.body["items"].as_array().context("items")?;
    Ok(items.iter().filter_map(|item| item["id"].as_i64()).collect())
}
