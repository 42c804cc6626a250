//! Managements from BigQuery into their raw table, against somebody who fetches the same pages and throws them away.

use super::Arena;
use crate::figure::Figure;
use anyhow::{Context, Result, ensure};
use chrono::{Days, Utc};
use serde_json::{Value, json};
use simulators::bigquery::{BigQuery, Field, Row, Table};
use stack::{Namespace, Stack};
use std::path::Path;
use std::time::Instant;

const TABLE: &str = "raw_mibotair_gestiones";
/// As the service asks for them.
const PAGE: usize = 10_000;

/// Calls of the last weeks.
fn management(number: usize) -> Row {
    // The same for every reader of the table: moments follow from the number alone.
    let at = 1_795_000_000_000_000_i64 + i64::try_from(number).unwrap_or_default() * 250_000;
    let row = json!({
        "uid": format!("{number:012}"), "date": at, "document": format!("L{}", number % 110_000),
        "phone": format!("9{:08}", number % 100_000_000), "n1": "CONTACTO", "n2": "TITULAR", "n3": "PROMESA DE PAGO",
        "nombre_agente": format!("Agente {}", number % 60), "correo_agente": format!("agente{}@ejemplo.pe", number % 60),
        "monto_compromiso": format!("{}.50", number % 900), "fecha_compromiso": "2026-11-30",
    });
    row.as_object().cloned().unwrap_or_default()
}

fn source(rows: usize) -> Result<BigQuery> {
    let source = BigQuery::start()?;
    source.page_size(PAGE);
    let columns = [
        ("uid", "STRING"),
        ("date", "TIMESTAMP"),
        ("document", "STRING"),
        ("phone", "STRING"),
        ("n1", "STRING"),
        ("n2", "STRING"),
        ("n3", "STRING"),
        ("nombre_agente", "STRING"),
        ("correo_agente", "STRING"),
        ("monto_compromiso", "NUMERIC"),
        ("fecha_compromiso", "DATE"),
    ];
    let fields = columns.map(|(name, kind)| Field::new(name, kind)).into();
    source.set("mibotair_gestiones", Table { fields, rows: Vec::new(), made: Some((rows, management)) });
    Ok(source)
}

async fn arena(stack: &Stack, dir: &Path, label: &str, source: &BigQuery) -> Result<Arena> {
    let namespace = Namespace::create_on(&stack.servers(), label).await?;
    let settings = [
        ("ETL_BSALE", "false".to_owned()),
        ("BIGQUERY_URL", source.url().to_owned()),
        ("BIGQUERY_PROJECT_ID", "bench".to_owned()),
        ("BIGQUERY_DATASET", "cobranzas".to_owned()),
        ("BIGQUERY_ANONYMOUS", "true".to_owned()),
        // One slice: the simulator gives all rows to every query.
        ("COLLECTIONS_START_DATE", (Utc::now().date_naive() - Days::new(20)).to_string()),
    ];
    Arena::start(namespace, dir, label, &settings).await
}

/// `bigquery_merge`, `bigquery_same` and `peak_memory`: a table of so many rows, and once more without a change.
pub async fn measure(stack: &Stack, dir: &Path, rows: usize, wanted: &impl Fn(&str) -> bool) -> Result<()> {
    let source = source(rows)?;
    let arena = arena(stack, dir, "bigquery", &source).await?;
    let floor = floor(&source, rows, "floor").await?;
    let first = arena.run(TABLE, true).await?;
    ensure!(first.counters["insertados"] == rows, "{}", first.counters);
    if wanted("bigquery_merge") {
        Figure::new("etl", "bigquery_merge", first.seconds, "s").floor_of_time(floor).n(rows).print();
    }
    if wanted("peak_memory") {
        Figure::new("etl", "peak_memory", arena.peak()?, "MB").n(rows).print();
    }
    if wanted("bigquery_same") {
        let floor = self::floor(&source, rows, "floor-again").await?;
        let again = arena.run(TABLE, true).await?;
        ensure!(again.counters["sin_cambios"] == rows, "{}", again.counters);
        Figure::new("etl", "bigquery_same", again.seconds, "s").floor_of_time(floor).n(rows).print();
    }
    arena.end().await
}

/// `peak_memory_4x`: the most memory of a fresh worker over four times as many rows.
pub async fn peak(stack: &Stack, dir: &Path, rows: usize) -> Result<()> {
    let source = source(rows)?;
    let arena = arena(stack, dir, "peak", &source).await?;
    let ran = arena.run(TABLE, true).await?;
    ensure!(ran.counters["insertados"] == rows, "{}", ran.counters);
    Figure::new("etl", "peak_memory_4x", arena.peak()?, "MB").n(rows).print();
    arena.end().await
}

/// Begins a query and fetches all of its pages, one after the other, of which it only looks for the next page's token.
async fn floor(source: &BigQuery, rows: usize, job: &str) -> Result<f64> {
    let http = stack::http();
    let base = format!("{}/bigquery/v2/projects/bench", source.url());
    let begin = Instant::now();
    let body = json!({
        "jobReference": { "projectId": "bench", "jobId": job },
        "configuration": { "query": { "query": "SELECT * FROM `bench.cobranzas.mibotair_gestiones`" } },
    });
    http.post(format!("{base}/jobs")).json(&body).send().await?.error_for_status()?;
    let (mut token, mut pages): (Option<String>, usize) = (None, 0);
    loop {
        let mut query =
            vec![("maxResults", PAGE.to_string()), ("formatOptions.useInt64Timestamp", "true".to_owned())];
        query.extend(token.take().map(|token| ("pageToken", token)));
        let page =
            http.get(format!("{base}/queries/{job}")).query(&query).send().await?.error_for_status()?;
        let page = page.bytes().await?;
        pages += 1;
        token = next(&page)?;
        if token.is_none() {
            break;
        }
    }
    ensure!(pages == rows.div_ceil(PAGE), "{pages} pages");
    Ok(begin.elapsed().as_secs_f64())
}

/// The token of the next page, without reading the rows: the simulator writes members by name, rows after it.
fn next(page: &[u8]) -> Result<Option<String>> {
    const NAME: &[u8] = b"\"pageToken\":";
    let Some(at) = page.windows(NAME.len()).take(10_000).position(|window| window == NAME) else {
        return Ok(None);
    };
    let rest = &page[at + NAME.len()..];
    let value = serde_json::Deserializer::from_slice(rest).into_iter::<Value>().next();
    Ok(value.context("a token")??.as_str().map(str::to_owned))
}
