//! A job that the command line runs itself, to its end.

use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::Utc;
use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use jobs::{Job, Runner, Work};
use sea_orm::sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Works the job off, over its deferrals, and returns it as it ended.
///
/// # Errors
/// A request to stop.
pub async fn drive(
    pool: &PgPool,
    lease: Duration,
    id: Uuid,
    work: &dyn Work,
    bar: &ProgressBar,
    shutdown: &CancellationToken,
) -> anyhow::Result<Job> {
    let runner = Runner::new(pool.clone()).lease(lease);
    loop {
        // What goes wrong on the way is in the job's row.
        let attempt = runner.run(id, shutdown, work).await;
        if shutdown.is_cancelled() {
            bail!("told to stop; run the same command again to go on");
        }
        match job(pool, id).await {
            Ok(job) if job.state.is_final() => {
                bar.finish_and_clear();
                return Ok(job);
            }
            Ok(job) => wait(bar, &job, shutdown).await,
            Err(error) => {
                tracing::debug!(?attempt, "the job's row can't be read");
                bar.set_message(format!("{error:#}"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn job(pool: &PgPool, id: Uuid) -> anyhow::Result<Job> {
    let mut conn = pool.acquire().await?;
    jobs::get(&mut conn, id).await?.context("the job's row is gone")
}

/// Says what the job waits for, and waits a little.
async fn wait(bar: &ProgressBar, job: &Job, shutdown: &CancellationToken) {
    let until = job.lease_until.unwrap_or(job.next_run_at);
    let left = (until - Utc::now()).num_seconds().max(0);
    let why = job.error.as_deref().unwrap_or("another process holds this job, or died with it");
    bar.set_message(format!("goes on in {left} s: {why}"));
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(500)) => {}
        () = shutdown.cancelled() => {}
    }
}

/// Rows of all rows, per cent, rows/s, time to go, errors. On standard error, where there is a terminal.
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{} rows/s", HumanCount(state.per_sec() as u64));
    };
    let style = ProgressStyle::with_template(
        "{bar:30} {human_pos}/{human_len} {percent}% {rate} eta {eta} {wide_msg}",
    );
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", rate));
    bar
}
