//! Syncs and dashboards. Sizes are variables, so that a small run shows in a minute that each figure can be measured:
//! `ROWS` of BigQuery (1,000,000), `DOCUMENTS` of Bsale (18,000), `ACCOUNTS` of the collections (165,000, with 3,200,000
//! managements: as many for each account where there are fewer).

mod bigquery;
mod dashboards;
mod marts;
mod sales;

use anyhow::{Context, Result, ensure};
use sea_orm::sqlx::{self, PgPool};
use serde_json::{Value, json};
use stack::platform::{Client, Options, Place, Platform};
use stack::services::ETL;
use stack::{Namespace, Stack};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Measures what is wanted, on servers of its own that are as durable as in production, each group of figures on a
/// platform of its own.
pub async fn measure(wanted: impl Fn(&str) -> bool) -> Result<()> {
    stack::install_tls();
    let any = |figures: &[&str]| figures.iter().any(|figure| wanted(figure));
    let dir = stack::home().join(format!("bench/etl-{}", stack::random_hex(3)));
    let stack = Stack::start(&dir).await?;
    if any(&["bigquery_merge", "bigquery_same", "peak_memory"]) {
        let rows = size("ROWS", 1_000_000)?;
        bigquery::measure(&stack, &dir, rows, &wanted).await?;
    }
    if wanted("peak_memory_4x") {
        let rows = 4 * size("ROWS", 1_000_000)?;
        bigquery::peak(&stack, &dir, rows).await?;
    }
    if any(&["bsale_mariadb", "bsale_postgres", "bsale_quota"]) {
        sales::measure(&stack, &dir, size("DOCUMENTS", 18_000)?, &wanted).await?;
    }
    if any(&["marts_full", "marts_1_percent", "dashboard_hit", "dashboard_miss", "dashboard_redis_down"]) {
        marts::measure(&stack, &dir, size("ACCOUNTS", 165_000)?, &wanted).await?;
    }
    stack.remove().await
}

/// A size that the environment says, or the default.
fn size(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => {
            text.replace('_', "").parse().with_context(|| format!("{name} is {text:?}, expected a number"))
        }
        Err(_) => Ok(default),
    }
}

/// A platform with etl, and somebody who asks for runs.
struct Arena {
    namespace: Namespace,
    platform: Platform,
    pool: PgPool,
    client: Client,
}

/// A run that ended well.
struct Ran {
    /// From its claim to its end.
    seconds: f64,
    /// Its counters.
    counters: Value,
}

impl Arena {
    async fn start(
        namespace: Namespace,
        dir: &Path,
        label: &str,
        settings: &[(&str, String)],
    ) -> Result<Self> {
        let mut options = Options::new(dir.join(label))
            .workers(0)
            .with(&ETL, 1)
            .env("ACCESS_TOKEN_SECONDS", 86_400)
            .env("RUST_LOG", "warn");
        for (name, value) in settings {
            options = options.env(name, value);
        }
        let platform = Platform::start(Place::of(&namespace).await?, &options).await?;
        let pool = platform.syncs().await?;
        // Nothing but what a figure asks for.
        sqlx::query("update schedules set next_at = now() + interval '1 year'").execute(&pool).await?;
        let client = platform.admin().await?.at(&platform.service(&ETL).url());
        Ok(Self { namespace, platform, pool, client })
    }

    /// Has a table read, wholly or what is new.
    async fn run(&self, table: &str, whole: bool) -> Result<Ran> {
        let asked =
            self.client.post(&format!("/api/v1/etl/refresh/table/{table}?force={whole}"), &json!({})).await?;
        ensure!(asked.status == 202, "{asked}");
        let id = asked.body["run_id"].as_str().context("the run's id")?;
        let path = format!("/api/v1/etl/runs/{id}");
        let begin = Instant::now();
        loop {
            let answer = self.client.get(&path).await?;
            let run = match &answer.body["ejecuciones"][0] {
                Value::Null => &answer.body,
                run => run,
            };
            match run["estado"].as_str() {
                Some("completed") => {
                    let moment = |name: &str| -> Result<chrono::DateTime<chrono::Utc>> {
                        Ok(run[name].as_str().context("a moment")?.parse()?)
                    };
                    let took = moment("terminado_en")? - moment("iniciado_en")?;
                    return Ok(Ran { seconds: took.as_seconds_f64(), counters: run["contadores"].clone() });
                }
                Some("pending" | "running") => {}
                _ => anyhow::bail!("{answer}"),
            }
            ensure!(begin.elapsed() < PATIENCE, "not finished: {answer}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The most memory that the worker ever had resident (VmHWM), in MB.
    fn peak(&self) -> Result<f64> {
        let worker = self.platform.service(&ETL).workers.first().context("a worker")?;
        Ok(worker.daemon().peak_memory().context("VmHWM")? as f64 / 1e6)
    }

    async fn end(self) -> Result<()> {
        self.pool.close().await;
        drop(self.platform);
        self.namespace.cleanup().await
    }
}
