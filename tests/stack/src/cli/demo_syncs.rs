//! Syncs in the demo: a shop's day into the sales database, BigQuery into the collections dashboards, one row of them, and
//! the runs that did it.

use super::state::Demo;
use super::upload::body;
use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long all of it may take before we give up on it.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
struct Begun {
    /// One a stream: a new one, or the one that it has under way.
    runs: Vec<String>,
}

#[derive(Deserialize)]
struct Run {
    flujo: String,
    estado: String,
    contadores: Counters,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Counters {
    leidos: u64,
    insertados: u64,
    actualizados: u64,
    sin_cambios: u64,
}

/// Syncs both sources and shows a dashboard.
pub async fn run(demo: &Demo, client: &Client, token: &str) -> Result<()> {
    let gateway = demo.wiring.gateway_url();
    let get = async |path: &str| client.get(format!("{gateway}{path}")).bearer_auth(token).send().await;
    let post = async |path: &str| {
        client.post(format!("{gateway}{path}")).bearer_auth(token).json(&json!({})).send().await
    };
    println!("\nSales from Bsale and collections from BigQuery, both simulated");
    let end = Instant::now() + PATIENCE;
    println!(
        "  {:<32} {:>9} {:>8} {:>8} {:>8} {:>9}",
        "STREAM", "STATE", "READ", "NEW", "CHANGED", "UNCHANGED"
    );
    for path in ["/etl/run-daily-sync", "/api/v1/etl/refresh/dashboard"] {
        let begun: Begun = body(post(path).await?, path).await?;
        for id in &begun.runs {
            let url = format!("/api/v1/etl/runs/{id}");
            let run = loop {
                let run: Run = body(get(&url).await?, "a run").await?;
                if !matches!(run.estado.as_str(), "pending" | "running") {
                    break run;
                }
                ensure!(
                    Instant::now() < end,
                    "{} is {} after {PATIENCE:?}; see make logs SERVICE=etl-worker",
                    run.flujo,
                    run.estado
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            };
            let Run { flujo, estado, contadores, error } = run;
            let Counters { leidos, insertados, actualizados, sin_cambios } = contadores;
            println!(
                "  {flujo:<32} {estado:>9} {leidos:>8} {insertados:>8} {actualizados:>8} {sin_cambios:>9}"
            );
            ensure!(estado == "completed", "{flujo}: {}", error.as_deref().unwrap_or_default());
        }
    }
    // The marts follow within seconds.
    let (version, row) = loop {
        let answer = get("/api/v1/dashboard").await?.error_for_status()?;
        let version = answer.headers().get("x-data-version").and_then(|version| version.to_str().ok());
        let version = version.context("X-Data-Version")?.to_owned();
        let answer: BTreeMap<String, Value> = answer.json().await?;
        let first = answer.get("segmentoData").and_then(|rows| rows.get(0)).cloned();
        if let Some(row) = first {
            break (version, row);
        }
        ensure!(Instant::now() < end, "no dashboard within {PATIENCE:?}; see make logs SERVICE=etl-worker");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    println!("\n  the dashboard's first row, of version {version} of the data:");
    for (name, title) in [
        ("name", "cartera"),
        ("cuentas", "accounts"),
        ("cobertura", "managed, %"),
        ("contacto", "contacted, %"),
        ("cierre", "paid, %"),
        ("deudaAct", "owed"),
    ] {
        println!("  {title:<16} {}", row[name].as_str().map_or_else(|| row[name].to_string(), str::to_owned));
    }
    Ok(())
}
