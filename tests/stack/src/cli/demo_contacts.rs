//! Contacts in the demo: a dirty numeros.db becomes contacts, and a segment of them is previewed.

use super::state::Demo;
use super::upload::body;
use anyhow::{Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Client;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use serde_json::{Value, json};
use stack::contacts::{Dirt, Spec, generate};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ROWS: u64 = 20_000;

/// How long the import may take before we give up on it.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Accepted {
    id: String,
    status_url: String,
}

#[derive(Deserialize)]
struct Import {
    status: String,
    processed: u64,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Report {
    rows: u64,
    created: u64,
    updated: u64,
    unchanged: u64,
    merged: u64,
    rejected: u64,
    rejected_by_reason: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Preview {
    count: u64,
    by_state: Vec<Value>,
    sample: Vec<Value>,
}

/// Imports contacts and previews a segment.
pub async fn run(demo: &Demo, client: &Client, token: &str) -> Result<()> {
    let gateway = demo.wiring.gateway_url();
    let get = async |path: &str| client.get(format!("{gateway}{path}")).bearer_auth(token).send().await;
    println!("\nContacts from a dirty numeros.db, and a segment of them");
    let file = Demo::dir().join("numeros.db");
    let truth = generate(&file, &Spec { rows: ROWS, seed: 7, dirt: Dirt::default() }, |_| {})?;
    println!(
        "  {ROWS} rows, of which {} repeat others and {} are no phone: .stack/demo/numeros.db",
        truth.merged,
        truth.rejects()
    );
    let form = Form::new().part("file", Part::bytes(std::fs::read(&file)?).file_name("numeros.db"));
    let answer = client
        .post(format!("{gateway}/api/v1/contacts/imports?consent_basis=contrato"))
        .bearer_auth(token)
        .multipart(form)
        .send()
        .await?;
    let accepted: Accepted = body(answer, "import contacts").await?;

    let bar = ProgressBar::new(ROWS);
    bar.set_style(ProgressStyle::with_template("  {bar:40.green} {pos}/{len} rows  {msg}")?);
    let began = Instant::now();
    loop {
        let import: Import = body(get(&accepted.status_url).await?, "status").await?;
        bar.set_position(import.processed);
        bar.set_message(import.status.clone());
        match import.status.as_str() {
            "completed" => break bar.finish(),
            "failed" | "cancelled" => {
                bail!("the import {}: {}", import.status, import.error.unwrap_or_default())
            }
            state => ensure!(
                began.elapsed() < PATIENCE,
                "the import is still {state} after {PATIENCE:?}; see make logs SERVICE=sms-dispatch-worker"
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let report = get(&format!("/api/v1/contacts/imports/{}/report", accepted.id)).await?;
    let report: Report = body(report, "report").await?;
    let Report { rows, created, updated, unchanged, merged, rejected, rejected_by_reason } = report;
    println!("  completed after {:.1} s\n", began.elapsed().as_secs_f64());
    println!(
        "  {:>8} {:>8} {:>8} {:>10} {:>8} {:>9}",
        "ROWS", "CREATED", "UPDATED", "UNCHANGED", "MERGED", "REJECTED"
    );
    println!("  {rows:>8} {created:>8} {updated:>8} {unchanged:>10} {merged:>8} {rejected:>9}\n");
    for (reason, rows) in rejected_by_reason.iter().take(4) {
        println!("  {rows:>8} {reason}");
    }
    println!("  {:>8} and {} reasons more", "…", rejected_by_reason.len().saturating_sub(4));
    // A second demo finds them all there.
    ensure!(
        created + updated + unchanged == truth.contacts
            && merged == truth.merged
            && rejected == truth.rejects(),
        "the database was made to give {truth:?}"
    );

    let filter = json!({ "ladas": ["55", "33", "81"] });
    let answer = client
        .post(format!("{gateway}/api/v1/segments/preview"))
        .bearer_auth(token)
        .json(&filter)
        .send()
        .await?;
    let preview: Preview = body(answer, "preview").await?;
    println!(
        "\n  a segment of the LADAs 55, 33 and 81: {} contacts in {} states, {} of them shown",
        preview.count,
        preview.by_state.len(),
        preview.sample.len()
    );
    ensure!(preview.count > 0 && !preview.sample.is_empty(), "the segment is empty");
    Ok(())
}
