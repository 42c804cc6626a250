use crate::aftermath;
use crate::case::Case;
use anyhow::{Context, Result};
use sea_orm::sqlx::{self, PgPool};
use stack::platform::{Client, Events, Options, Place, Platform, Upload};
use stack::proxy::Proxy;
use stack::workbook::{Known, Spec, Truth};
use stack::{Servers, Stack};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The supplier whose workbooks are imported.
pub const SUPPLIER: &str = "PROV-CHAOS";
/// One whose products nobody else may touch.
const OTHER: &str = "PROV-OTHER";

/// How long an import should take, so that there is something to strike: enough for the machine to notice, not
/// enough for twenty rounds to become boring.
const IMPORT: Duration = Duration::from_millis(2_000);

/// Servers and services of one case's own, as durable as in production.
pub struct Arena {
    pub case: Case,
    pub stack: Stack,
    /// Before S3 and SQS.
    pub aws: Proxy,
    /// Between the clients and the gateway: a slow line gives uploads that take time.
    pub door: Proxy,
    pub platform: Platform,
    /// An administrator who comes by the door.
    pub client: Client,
    pub pool: PgPool,
    pub events: Events,
    /// Rows that take about [`IMPORT`].
    pub rows: usize,
    /// Products of somebody else.
    pub foreign: Vec<Known>,
    dir: PathBuf,
}

/// A workbook on disk, and what must come of it.
pub struct Book {
    pub upload: Upload,
    pub truth: Truth,
    pub prefix: String,
}

impl Arena {
    pub async fn start(case: Case) -> Result<Self> {
        let dir = stack::home().join(format!("chaos/{}-{}", case.name(), stack::random_hex(3)));
        let stack = Stack::start(&dir).await?;
        let servers = stack.servers();
        let (aws, aws_endpoint) = Proxy::before(&servers.aws_endpoint).await?;
        let place = Place::whole(&servers).await?.through(Servers { aws_endpoint, ..servers });
        let options = Options::new(dir.join("services"))
            .workers(2)
            // Many small steps, each of which can be struck; and dead holders are missed soon.
            .env("IMPORT_BATCH_ROWS", 50)
            .env("IMPORT_LEASE_SECONDS", 3)
            .env("SQS_VISIBILITY_TIMEOUT", 10)
            .env("SQS_WAIT_SECONDS", 2)
            // One login for the whole case.
            .env("ACCESS_TOKEN_SECONDS", 86_400);
        let platform = Platform::start(place, &options).await?;
        let (door, address) = Proxy::before(&platform.gateway_url()).await?;
        let client = platform.admin().await?.at(&address);
        let pool = platform.catalog().await?;
        let events = Events::listen(&platform.place).await?;
        let mut arena = Self {
            case,
            stack,
            aws,
            door,
            platform,
            client,
            pool,
            events,
            rows: 0,
            foreign: Vec::new(),
            dir,
        };
        arena.warm_up().await?;
        Ok(arena)
    }

    /// Somebody else's products, and how many rows an import does in [`IMPORT`].
    async fn warm_up(&mut self) -> Result<()> {
        let rows = 2_000;
        let book = self.book(&Spec::new(0, "OTHER", rows), OTHER)?;
        let task = self.client.upload_until_accepted(&book.upload, Duration::from_secs(60)).await?;
        let status = self.client.finished(&task, Duration::from_secs(120)).await?;
        let verdict = stack::platform::compare(&self.pool, None, &status, &book.truth, &book.prefix).await?;
        anyhow::ensure!(verdict.is_exact(), "an import that nobody disturbs is wrong: {verdict:?}");
        self.foreign = book.truth.as_known();
        self.foreign.iter_mut().for_each(|known| known.own = false);
        let (created, finished) = self.span(&task).await?;
        let took = finished.context("a finished import has an end")? - created;
        self.rows = ((rows as f64 * IMPORT.as_secs_f64() / took) as usize).clamp(500, 40_000);
        eprintln!("{}: {rows} rows take {took:.2} s; {} rows a workbook", self.case.name(), self.rows);
        Ok(())
    }

    /// Writes a workbook.
    pub fn book(&self, spec: &Spec, proveedor_id: &str) -> Result<Book> {
        let file = self.dir.join(format!("{}.xlsx", spec.prefix));
        let truth = spec.write_xlsx(&file)?;
        let upload =
            Upload::new(&file, proveedor_id).replacing(spec.replace).key(&format!("key-{}", spec.prefix));
        Ok(Book { upload, truth, prefix: spec.prefix.clone() })
    }

    /// When a job was created and when it ended, in Unix seconds.
    pub async fn span(&self, task: &str) -> Result<(f64, Option<f64>)> {
        Ok(sqlx::query_as(
            "SELECT extract(epoch FROM created_at)::float8, extract(epoch FROM finished_at)::float8
             FROM jobs WHERE id = $1::uuid",
        )
        .bind(task)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Of these tasks, those that a worker is at work on.
    pub async fn running(&self, tasks: &[String]) -> Result<Vec<String>> {
        Ok(sqlx::query_scalar("SELECT id::text FROM jobs WHERE state = 'running' AND id = ANY($1::uuid[])")
            .bind(tasks)
            .fetch_all(&self.pool)
            .await?)
    }

    /// The imports that exist under an upload's `Idempotency-Key`: there must be one.
    pub async fn under_key(&self, key: &str) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM jobs WHERE idempotency_key = $1")
            .bind(key)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Events that came after a task was compared: one task has one event.
    pub async fn late_events(&self, tasks: &[String]) -> Result<usize> {
        let mut surplus = 0;
        for task in tasks {
            surplus += self.events.of(task).await?.len().saturating_sub(1);
        }
        Ok(surplus)
    }

    /// What the doctors find once the dust has settled: what is only on its way may take half a minute.
    pub async fn findings(&self) -> Result<Vec<String>> {
        aftermath::findings(&self.platform, |_| true).await
    }

    /// Stops everything. Data and logs go too, where there is nothing in them to look at.
    pub async fn end(self, clean: bool) -> Result<()> {
        let Self { stack, platform, pool, dir, .. } = self;
        pool.close().await;
        drop(platform);
        aftermath::end(stack, &dir, clean).await
    }
}

/// Now, in Unix seconds.
pub fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
