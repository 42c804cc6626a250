//! Writes providers' reports, many in one commit: a provider waits for the commit that its report is in, and reports that come
//! while one is under way share the next. So their rate is bounded by what the database inserts, not by how often it syncs.

use chassis::{Problem, db::unavailable};
use failpoints::Point;
use sea_orm::sqlx::{self, PgPool};
use tokio::sync::{mpsc, oneshot};

use crate::storage::reports::{self, Report};

/// Reports in one commit.
const BATCH: usize = 200;
/// Reports that wait for their commit. Each has at most the 64 KiB of a webhook.
const WAITING: usize = 1_000;

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
    /// Starts the writer, on the runtime that this is called on.
    pub fn start(pool: PgPool) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write(pool, waiting));
        Self { requests }
    }

    /// Writes a report. It is durable when this returns.
    ///
    /// # Errors
    /// 503 where the database is away, or where more reports wait than it writes: the provider delivers it again.
    pub async fn keep(&self, report: Report) -> Result<(), Problem> {
        let (written, answer) = oneshot::channel();
        let away =
            |what: &'static str| Problem::unavailable("database_unavailable", anyhow::Error::msg(what));
        self.requests
            .try_send(Request { report, written })
            .map_err(|_| away("too many reports of providers wait to be written"))?;
        answer.await.map_err(|_| away("the reports of providers could not be written"))??;
        Ok(())
    }
}

async fn write(pool: PgPool, mut waiting: mpsc::Receiver<Request>) {
    let mut requests = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut requests, BATCH).await > 0 {
        let (reports, askers): (Vec<Report>, Vec<_>) =
            requests.drain(..).map(|Request { report, written }| (report, written)).unzip();
        match reports::keep(&pool, &reports).await {
            Ok(()) => {
                failpoints::hit(Point::ReportKept);
                for asker in askers {
                    // Who has hung up will deliver it again.
                    let _ = asker.send(Ok(()));
                }
            }
            Err(error) if unavailable(&error) => {
                tracing::warn!(%error, reports = reports.len(), "reports of providers are not written");
            }
            // One that can't be written refuses no other.
            Err(_) => {
                for (report, asker) in reports.iter().zip(askers) {
                    let _ = asker.send(reports::keep(&pool, std::slice::from_ref(report)).await);
                }
            }
        }
    }
}
