mod data;
mod export;
mod ingest;
mod list;

use anyhow::{Context, Result, ensure};
use chrono::NaiveDate;
use sea_orm::sqlx::PgPool;
use serde_json::{Value, json};
use stack::platform::{Client, Options, Place, Platform};
use stack::services::REPORT;
use stack::{Namespace, Stack};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// Measures what is wanted, on servers of its own that are as durable as in production, each group of figures on a
/// platform of its own with the services' default settings.
pub async fn measure(wanted: impl Fn(&str) -> bool) -> Result<()> {
    let dir = stack::home().join(format!("bench/report-{}", stack::random_hex(3)));
    let stack = Stack::start(&dir).await?;
    if ["export_400k", "peak_memory_400k"].iter().any(|figure| wanted(figure)) {
        let mut arena = Arena::start(&stack, &dir, "export").await?;
        export::one(&mut arena, 400_000, "peak_memory_400k", &wanted).await?;
        arena.end().await?;
    }
    if wanted("peak_memory_4m") {
        let mut arena = Arena::start(&stack, &dir, "peak").await?;
        export::one(&mut arena, 4_000_000, "peak_memory_4m", &wanted).await?;
        arena.end().await?;
    }
    if wanted("run_1000_campaigns") {
        let arena = Arena::start(&stack, &dir, "many").await?;
        export::many(&arena).await?;
        arena.end().await?;
    }
    if wanted("campania_list_page") {
        let arena = Arena::start(&stack, &dir, "list").await?;
        list::measure(&arena).await?;
        arena.end().await?;
    }
    if wanted("ingest") {
        let mut arena = Arena::start(&stack, &dir, "ingest").await?;
        ingest::measure(&mut arena).await?;
        arena.end().await?;
    }
    stack.remove().await
}

/// A platform with report, and somebody who asks for reports.
pub struct Arena {
    pub namespace: Namespace,
    pub platform: Platform,
    pub pool: PgPool,
    pub client: Client,
}

impl Arena {
    async fn start(stack: &Stack, dir: &Path, label: &str) -> Result<Self> {
        let namespace = Namespace::create_on(&stack.servers(), label).await?;
        let options = Options::new(dir.join(label))
            .workers(0)
            .with(&REPORT, 1)
            .env("ACCESS_TOKEN_SECONDS", 86_400)
            .env("RUST_LOG", "warn");
        let platform = Platform::start(Place::of(&namespace).await?, &options).await?;
        let (pool, client) = (platform.reports().await?, platform.admin().await?);
        Ok(Self { namespace, platform, pool, client })
    }

    async fn end(self) -> Result<()> {
        self.pool.close().await;
        drop(self.platform);
        self.namespace.cleanup().await
    }

    /// Has a day's report made. Gives its run, and how long it took from the answer to the last file's end.
    async fn run(&self, day: NaiveDate) -> Result<(Value, Duration)> {
        let request = json!({ "fecha": day.format("%Y/%m/%d").to_string(), "forzar": true });
        let asked = self.client.post("/api/v1/reports", &request).await?;
        let begin = Instant::now();
        ensure!(asked.status == 202, "{asked}");
        let path = format!("/api/v1/reports/{}", asked.body["id"].as_str().context("an id")?);
        loop {
            let run = self.client.get(&path).await?;
            ensure!(run.body["estado"] != "ERROR", "{run}");
            if run.body["estado"] == "COMPLETADO" {
                return Ok((run.body, begin.elapsed()));
            }
            ensure!(begin.elapsed() < PATIENCE, "not finished: {run}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
