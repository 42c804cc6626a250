//! Writes providers' reports, many in one commit: a provider waits for the commit that its report is in, and reports that come
//! while one is under way share the next. So their rate is bounded by what the database inserts, not by how often it syncs.

use std::time::Duration;

use chassis::{
    Problem,
    db::{in_time, unavailable},
};
use failpoints::Point;
use sea_orm::sqlx::{self, PgPool};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::storage::reports::{self, Report};

/// Reports in one commit.
const BATCH: usize = 200;
/// Reports that wait for their commit. Each has at most the 64 KiB of a webhook.
const WAITING: usize = 1_000;
/// How long a provider waits. It gives up itself after a few seconds, and comes again.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long one commit may take. A server that says nothing says so to nobody: what is not committed by then is refused, and if it was,
/// it comes twice.
const COMMIT: Duration = Duration::from_millis(1_500);

/// Cloning shares the writer. It ends with its last clone.
#[derive(Clone)]
pub struct ReportWriter {
    requests: mpsc::Sender<Request>,
}

struct Request {
    report: Report,
    /// Told nothing where the database is away.
    written: oneshot::Sender<sqlx::Result<()>>,
}

impl ReportWriter {
    /// Starts the writer, on the runtime that this is called on. The task is to be watched ([`watch`]): without it nothing is written.
    pub fn start(pool: PgPool) -> (Self, JoinHandle<()>) {
        let (requests, waiting) = mpsc::channel(WAITING);
        (Self { requests }, tokio::spawn(write(pool, waiting)))
    }

    /// Writes a report. It is durable when this returns.
    ///
    /// # Errors
    /// 503 within some seconds where the database is away or says nothing, or where more reports wait than it writes: the provider
    /// delivers it again.
    pub async fn keep(&self, report: Report) -> Result<(), Problem> {
        let (written, answer) = oneshot::channel();
        let away = || {
            let what = anyhow::Error::msg("the reports of providers could not be written");
            Problem::unavailable("database_unavailable", what)
        };
        let kept = async {
            self.requests.send(Request { report, written }).await.map_err(|_| away())?;
            answer.await.map_err(|_| away())?.map_err(Problem::from)
        };
        timeout(PATIENCE, kept).await.unwrap_or_else(|_| Err(away()))
    }
}

/// Ends when the writer does: before `shutdown` is cancelled that is a panic, after which the process is better restarted.
pub async fn watch(writer: JoinHandle<()>, shutdown: CancellationToken) {
    if let Some(Err(error)) = shutdown.run_until_cancelled(writer).await {
        tracing::error!(%error, "nobody writes the reports of providers any more");
    }
}

async fn write(pool: PgPool, mut waiting: mpsc::Receiver<Request>) {
    let mut requests = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut requests, BATCH).await > 0 {
        // Who has hung up delivers it again.
        requests.retain(|request: &Request| !request.written.is_closed());
        let (reports, askers): (Vec<Report>, Vec<_>) =
            requests.drain(..).map(|Request { report, written }| (report, written)).unzip();
        match keep(&pool, &reports).await {
            Ok(()) => {
                failpoints::hit(Point::ReportKept);
                for asker in askers {
                    let _ = asker.send(Ok(()));
                }
            }
            Err(error) if unavailable(&error) => {
                tracing::warn!(%error, reports = reports.len(), "reports of providers are not written");
            }
            // One that can't be written refuses no other.
            Err(_) => {
                for (report, asker) in reports.iter().zip(askers) {
                    let kept = keep(&pool, std::slice::from_ref(report)).await;
                    if kept.as_ref().is_err_and(unavailable) {
                        // Nor are the others.
                        break;
                    }
                    let _ = asker.send(kept);
                }
            }
        }
    }
}

async fn keep(pool: &PgPool, reports: &[Report]) -> sqlx::Result<()> {
    if reports.is_empty() {
        return Ok(());
    }
    let mut conn = pool.acquire().await?;
    let kept = timeout(COMMIT, reports::keep(&mut *conn, reports)).await;
    in_time(&mut conn, kept)
}
