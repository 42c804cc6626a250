//! Reports in the demo: a day of campaigns told of as events, its files made, the manifest, and how one begins.

use super::state::Demo;
use super::upload::body;
use anyhow::{Context, Result, ensure};
use chrono::{Days, NaiveDate, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Client;
use serde::Deserialize;
use serde_json::json;
use stack::platform::{Campaign, Publisher, Settled};
use std::time::{Duration, Instant};

const CAMPAIGNS: usize = 20;
const ROWS: usize = 400;

/// How long all of it may take before we give up on it.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Page {
    items: Vec<Item>,
    total: usize,
}

#[derive(Deserialize)]
struct Item {
    estado: String,
}

#[derive(Deserialize)]
struct Run {
    id: String,
    estado: String,
    filas: u64,
    filas_procesadas: Option<u64>,
    archivos: Counts,
}

#[derive(Deserialize)]
struct Counts {
    total: usize,
    completados: usize,
}

#[derive(Deserialize)]
struct Manifest {
    bucket: String,
    filas: usize,
    archivos: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    id_campana: i64,
    archivo: String,
    filas: u64,
    bytes: u64,
    sha256: String,
}

/// Tells of a day of campaigns and has its report made.
pub async fn run(demo: &Demo, client: &Client, token: &str) -> Result<()> {
    let gateway = demo.wiring.gateway_url();
    let get = async |path: &str| client.get(format!("{gateway}{path}")).bearer_auth(token).send().await;
    // A day that no earlier demo has used, so that each run has the same result.
    let mut day = Utc::now().date_naive();
    let slashed = |day: NaiveDate| day.format("%Y/%m/%d").to_string();
    while body::<Page>(get(&format!("/campania/list?fecha={}", slashed(day))).await?, "list").await?.total > 0
    {
        day = day.checked_sub_days(Days::new(1)).context("a day before")?;
    }
    println!("\nReports of a day's SMS campaigns, {day}");
    let publisher = Publisher::at(&demo.wiring.servers.management_url, "lote.events");
    for number in 1..=CAMPAIGNS {
        let campaign = Campaign::new(&format!("Campaña {number}"), day);
        let rows: Vec<_> = (0..ROWS).map(|row| message(number, row)).collect();
        publisher.started(&campaign, ROWS).await?;
        publisher.settled(&campaign, &rows).await?;
        let done = Campaign { state: "COMPLETADA".to_owned(), version: 2, ..campaign };
        publisher.completed(&done, ROWS).await?;
    }
    println!("  told of {CAMPAIGNS} campaigns with {ROWS} messages each, as events");

    let end = Instant::now() + PATIENCE;
    let mut run = loop {
        // All campaigns and all rows: events have no order.
        let path = format!("/campania/list?fecha={}&page_size=100", slashed(day));
        let page: Page = body(get(&path).await?, "list").await?;
        if page.items.iter().filter(|item| item.estado == "COMPLETADA").count() == CAMPAIGNS {
            let answer = client
                .post(format!("{gateway}/api/v1/reports"))
                .bearer_auth(token)
                .json(&json!({ "fecha": slashed(day) }))
                .send()
                .await?;
            let run: Run = body(answer, "ask for a report").await?;
            let run = follow(
                async || body(get(&format!("/api/v1/reports/{}", run.id)).await?, "report").await,
                end,
            )
            .await?;
            // What came after its files' snapshots makes a new run.
            if run.filas == (CAMPAIGNS * ROWS) as u64 {
                break run;
            }
        }
        ensure!(
            Instant::now() < end,
            "not all events arrived within {PATIENCE:?}; see make logs SERVICE=report-worker"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let id = std::mem::take(&mut run.id);
    let manifest: Manifest = body(get(&format!("/api/v1/reports/{id}/manifest")).await?, "manifest").await?;
    println!(
        "  {} files, {} rows, in the bucket {}\n",
        manifest.archivos.len(),
        manifest.filas,
        manifest.bucket
    );
    println!("  {:<44} {:>6} {:>8} SHA-256", "FILE", "ROWS", "BYTES");
    for line in manifest.archivos.iter().take(5) {
        println!("  {:<44} {:>6} {:>8} {}…", line.archivo, line.filas, line.bytes, &line.sha256[..16]);
    }
    println!("  … and {} more\n", manifest.archivos.len().saturating_sub(5));
    let first = manifest.archivos.first().context("a file")?;
    let path = format!("/api/v1/reports/{id}/files/{}/download?directo=true", first.id_campana);
    let text = get(&path).await?.error_for_status()?.text().await?;
    for line in text.lines().take(4) {
        println!("  {line}");
    }
    ensure!(manifest.archivos.len() == CAMPAIGNS && manifest.filas == CAMPAIGNS * ROWS, "rows are missing");
    Ok(())
}

fn message(campaign: usize, row: usize) -> Settled {
    let sent = Settled::sent(row, &format!("Hola, su factura {row} vence mañana; responda \"PAGAR\""));
    if row % 40 == campaign {
        let error = "Número inválido".to_owned();
        return Settled { state: "MESSAGE_STATE_FAILED", sent_at: None, error, ..sent };
    }
    sent
}

/// Polls the run until it is over, with a progress bar.
async fn follow(poll: impl AsyncFn() -> Result<Run>, end: Instant) -> Result<Run> {
    let bar = ProgressBar::new(CAMPAIGNS as u64);
    bar.set_style(ProgressStyle::with_template("  {bar:40.green} {pos}/{len} files  {msg}")?);
    loop {
        let run = poll().await?;
        bar.set_length(run.archivos.total as u64);
        bar.set_position(run.archivos.completados as u64);
        bar.set_message(format!("{} rows, {}", run.filas_procesadas.unwrap_or_default(), run.estado));
        if run.estado == "COMPLETADO" {
            bar.finish();
            return Ok(run);
        }
        ensure!(run.estado != "ERROR", "the report failed: GET /api/v1/reports/{}/files says why", run.id);
        ensure!(
            Instant::now() < end,
            "the report is not made after {PATIENCE:?}; see make logs SERVICE=report-worker"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
