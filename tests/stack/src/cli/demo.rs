//! The main job, as a user would do it: a supplier's workbook in, every row accounted for; then the reports of a
//! day of campaigns, and contacts from a database of numbers.

use super::state::Demo;
use super::up::up;
use super::{demo_contacts, demo_report};
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Client;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use stack::workbook::{Spec, Summary, Truth};
use std::time::{Duration, Instant};

const SUPPLIER: &str = "PROV001";
const ROWS: usize = 300;
const BAD: usize = 10;
const DUPLICATES: usize = 5;

/// How long the import of a small workbook may take before we give up on it.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Login {
    access_token: String,
}

#[derive(Deserialize)]
struct Accepted {
    task_id: String,
    status_url: String,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    progress: Progress,
    result: Option<Outcome>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Progress {
    total: Option<u64>,
    processed: u64,
}

#[derive(Deserialize)]
struct Outcome {
    resumen: Summary,
    errores: Vec<RowError>,
}

#[derive(Deserialize)]
struct RowError {
    fila: u32,
    error: String,
}

/// Starts everything, imports a workbook, has a day's reports made, imports contacts, shows what came of it.
pub async fn demo() -> Result<()> {
    let demo = up().await?;
    let client = stack::http();
    let gateway = demo.wiring.gateway_url();

    let user = &demo.wiring.admin_user;
    println!("\nA supplier's workbook through the gateway, as {user}");
    let credentials = serde_json::json!({ "username": user, "password": demo.wiring.admin_password });
    let login = client.post(format!("{gateway}/api/v1/auth/login")).json(&credentials).send().await?;
    let login: Login = body(login, "log in").await?;

    // New products each time, so that each run has the same result.
    let run = chrono::Utc::now().format("%m%d%H%M%S").to_string();
    let spec = Spec { bad: BAD, duplicates: DUPLICATES, ..Spec::new(7, &format!("DEMO{run}"), ROWS) };
    let path = Demo::dir().join("catalogo.xlsx");
    let truth = spec.write_xlsx(&path)?;
    println!(
        "  {ROWS} rows, of which {BAD} are bad and {DUPLICATES} repeat others: .stack/demo/catalogo.xlsx"
    );

    let begin = Instant::now();
    let form = Form::new().part("file", Part::bytes(std::fs::read(&path)?).file_name("catalogo.xlsx"));
    let answer = client
        .post(format!("{gateway}/api/v1/catalog/items/bulk-upload"))
        .query(&[("proveedor_id", SUPPLIER)])
        .bearer_auth(&login.access_token)
        .multipart(form)
        .send()
        .await?;
    let accepted: Accepted = body(answer, "upload").await?;
    println!("  accepted as {} after {} ms", accepted.task_id, begin.elapsed().as_millis());

    let url = format!("{gateway}{}", accepted.status_url);
    let outcome = follow(&client, &url, &login.access_token).await?;
    report(&outcome, &truth, begin.elapsed())?;
    demo_report::run(&demo, &client, &login.access_token).await?;
    demo_contacts::run(&demo, &client, &login.access_token).await?;
    print_where(&demo);
    Ok(())
}

pub(super) async fn body<T: serde::de::DeserializeOwned>(answer: reqwest::Response, what: &str) -> Result<T> {
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "{what}: the gateway answered {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("{what}: unexpected answer {text}"))
}

/// Polls the status until the import is over, with a progress bar.
async fn follow(client: &Client, url: &str, token: &str) -> Result<Outcome> {
    let bar = ProgressBar::new(ROWS as u64);
    bar.set_style(ProgressStyle::with_template("  {bar:40.green} {pos}/{len} rows  {msg}")?);
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = client.get(url).bearer_auth(token).send().await?;
        let status: Status = body(answer, "status").await?;
        // The service counts the rows first; we know how many there are.
        bar.set_length(status.progress.total.filter(|total| *total > 0).unwrap_or(ROWS as u64));
        bar.set_position(status.progress.processed);
        bar.set_message(status.status.clone());
        match (status.status.as_str(), status.result) {
            ("completed", Some(result)) => {
                bar.finish();
                return Ok(result);
            }
            ("failed", _) => {
                bar.abandon();
                bail!("the import failed: {}", status.error.unwrap_or_default());
            }
            (state, _) if Instant::now() > end => {
                bar.abandon();
                bail!(
                    "the import is still {state} after {PATIENCE:?}; see make logs SERVICE=catalog-upload-worker"
                );
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn report(outcome: &Outcome, truth: &Truth, took: Duration) -> Result<()> {
    let Summary { total, created, rejected, duplicates, .. } = &outcome.resumen;
    println!("  completed after {:.1} s\n", took.as_secs_f64());
    println!("  {:>8} {:>8} {:>9} {:>11}", "ROWS", "CREATED", "REJECTED", "DUPLICATES");
    println!("  {total:>8} {created:>8} {rejected:>9} {duplicates:>11}\n");
    println!("  {:>8} ERROR", "ROW");
    for error in outcome.errores.iter().take(6) {
        println!("  {:>8} {}", error.fila, error.error.chars().take(90).collect::<String>());
    }
    println!("  {:>8} and {} more", "…", outcome.errores.len().saturating_sub(6));
    ensure!(
        outcome.resumen == truth.summary,
        "the workbook was made to give {:?}, the import says {:?}",
        truth.summary,
        outcome.resumen
    );
    Ok(())
}

/// Prints addresses, credentials and what to do next.
pub fn print_where(demo: &Demo) {
    let wiring = &demo.wiring;
    println!("\n  API and its documentation   {}/docs", wiring.gateway_url());
    println!("  user                        {}", wiring.admin_user);
    println!("  password                    {}", wiring.admin_password);
    println!("  RabbitMQ's management       {}", wiring.servers.management_url);
    println!(
        "\n  Next: source .stack/env     make status     make logs SERVICE=catalog-upload-worker     make down"
    );
}
