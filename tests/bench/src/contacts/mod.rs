mod floor;
mod merge;

use crate::{figure::Figure, numbers};
use anyhow::{Result, ensure};
use sea_orm::sqlx::{self, PgPool};
use serde_json::{Value, json};
use stack::contacts::Truth;
use stack::process::Service;
use stack::{Namespace, Stack};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long an import may take.
const PATIENCE: Duration = Duration::from_secs(3 * 60 * 60);
/// How often an import's memory is looked at; the kernel keeps the most there was.
const LOOK: Duration = Duration::from_millis(200);

/// Measures what is wanted, on servers of its own that are as durable as in production. `ROWS` says how many rows the
/// database of numbers has: 1,000,000 unless told.
pub async fn measure(wanted: impl Fn(&str) -> bool) -> Result<()> {
    let dir = stack::home().join(format!("bench/contacts-{}", stack::random_hex(3)));
    std::fs::create_dir_all(&dir)?;
    let file = dir.join("numeros.db");
    let truth = numbers::database(&file).await?;
    if wanted("normalise") {
        normalise(&file)?;
    }
    if ["load", "index", "peak_memory", "merge_100k"].iter().any(|figure| wanted(figure)) {
        let stack = Stack::start(&dir.join("servers")).await?;
        let arena = Arena::start(&stack, dir.clone()).await?;
        arena.measure(&file, &truth, &wanted).await?;
        arena.pool.close().await;
        arena.namespace.cleanup().await?;
        stack.remove().await?;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// A schema, and the command line on it.
struct Arena {
    namespace: Namespace,
    pool: PgPool,
    dir: PathBuf,
}

/// An import that ended well.
struct Imported {
    report: Value,
    /// The most memory that the process had resident, in bytes.
    peak: u64,
    took: Duration,
}

impl Imported {
    /// What some of its steps took, in seconds.
    fn seconds(&self, steps: &[&str]) -> f64 {
        steps.iter().filter_map(|step| self.report["seconds"][step].as_f64()).sum()
    }
}

impl Arena {
    async fn start(stack: &Stack, dir: PathBuf) -> Result<Self> {
        let namespace = Namespace::create_on(&stack.servers(), "contacts").await?;
        let pool = stack::platform::connect(&namespace.database_url).await?;
        let arena = Self { namespace, pool, dir };
        arena.command(&["migrate"])?.run().await.and_then(|(status, said)| {
            ensure!(status.success(), "migrate: {said}");
            Ok(())
        })?;
        Ok(arena)
    }

    fn command(&self, args: &[&str]) -> Result<Service> {
        Ok(Service::new("lote-sms-dispatch", args, &self.dir.join("sms-dispatch.log"))?
            .env("DATABASE_URL", &self.namespace.database_url)
            .env("RUST_LOG", "warn"))
    }

    /// Runs an import in a process of its own, to its end.
    async fn import(&self, file: &Path) -> Result<Imported> {
        let began = Instant::now();
        let running = self.command(&["import", &file.display().to_string()])?.start_unready()?;
        let mut peak = 0;
        while running.is_running() {
            peak = running.daemon().peak_memory().unwrap_or(0).max(peak);
            ensure!(began.elapsed() < PATIENCE, "the import takes too long");
            tokio::time::sleep(LOOK).await;
        }
        let took = began.elapsed();
        let status = running.exited(Duration::from_secs(5)).await?;
        ensure!(status.success(), "the import failed ({status}): {}", running.daemon().log_tail());
        let report: Value = sqlx::query_scalar("select report from imports order by number desc limit 1")
            .fetch_one(&self.pool)
            .await?;
        Ok(Imported { report, peak, took })
    }

    async fn measure(&self, file: &Path, truth: &Truth, wanted: &impl Fn(&str) -> bool) -> Result<()> {
        let imported = self.import(file).await?;
        let (rows, report) = (usize::try_from(truth.rows)?, &imported.report);
        eprintln!("{report}");
        for (name, expected) in [("rows", truth.rows), ("created", truth.contacts), ("merged", truth.merged)]
        {
            ensure!(report[name] == json!(expected), "{name} is {}, expected {expected}", report[name]);
        }
        ensure!(report["sample"]["different"] == json!([]), "{report}");
        ensure!(report["e164_percent"] == json!(100.0), "{report}");
        if wanted("peak_memory") {
            Figure::new("contacts", "peak_memory", imported.peak as f64 / 1e6, "MB").n(rows).print();
        }
        let floor = floor::measure(&self.pool, &self.namespace.database_url, &self.dir, wanted).await?;
        if wanted("load") {
            // Read, normalised, loaded, merged: what follows is counted apart.
            let load = imported.seconds(&["load", "merge"]);
            Figure::new("contacts", "load", load, "s")
                .floor_of_time(floor.load)
                .n(rows)
                .number("rows_per_second", rows as f64 / load)
                .number("whole_import_s", imported.took.as_secs_f64())
                .print();
        }
        if let Some(floor) = floor.index {
            Figure::new("contacts", "index", imported.seconds(&["index"]), "s")
                .floor_of_time(floor)
                .n(rows)
                .print();
        }
        if wanted("merge_100k") {
            merge::measure(self).await?;
        }
        Ok(())
    }
}

/// Numbers a second, on this thread alone.
fn normalise(file: &Path) -> Result<()> {
    let conn = rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = conn.prepare("select cast(numero as blob) from numeros limit 1000000")?;
    let numbers: Vec<Vec<u8>> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut rates = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let valid = numbers.iter().filter(|number| sms_dispatch::domain::normalise(number).is_ok()).count();
        rates.push(numbers.len() as f64 / began.elapsed().as_secs_f64());
        ensure!(valid > 0, "no number is valid");
    }
    Figure::new("contacts", "normalise", crate::figure::median(rates), "rows/s").n(numbers.len()).print();
    Ok(())
}
