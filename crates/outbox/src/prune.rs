use std::time::Duration;

use rand::RngExt as _;
use sea_orm::sqlx::{self, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{Error, inbox};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long what is done with is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Inbox rows: longer than a queue keeps a message. Those of messages that may be replayed, or were, stay longer.
    pub inbox: Duration,
    /// Dead letters that were replayed or discarded. Open ones stay until somebody decides; replayed ones at least as
    /// long as the inbox must remember what was replayed.
    pub resolved_letters: Duration,
    /// The record of who replayed and discarded what.
    pub audit: Duration,
}

impl Default for Retention {
    /// 30 days for the inbox (SQS keeps a message for 14 at most), 90 for resolved letters, two years for the audit.
    fn default() -> Self {
        Self { inbox: 30 * DAY, resolved_letters: 90 * DAY, audit: 730 * DAY }
    }
}

/// How many rows [`prune`] deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Inbox rows.
    pub inbox: u64,
    /// Replayed or discarded dead letters.
    pub letters: u64,
    /// Audit rows.
    pub audit: u64,
}

/// Deletes what is done with, in small transactions. Several processes may do so at once.
///
/// # Errors
/// The database.
pub async fn prune(pool: &PgPool, retention: Retention) -> Result<Pruned, Error> {
    let inbox = inbox::prune(pool, retention.inbox).await?;
    let mut letters = 0;
    loop {
        let batch = sqlx::query(
            "DELETE FROM dead_letters WHERE id = ANY (ARRAY(
                 SELECT id FROM dead_letters
                 WHERE state <> 'open' AND resolved_at < now() - make_interval(secs => $1)
                   AND (replayed_at < now() - make_interval(secs => $2)) IS NOT FALSE
                 ORDER BY resolved_at LIMIT 1000 FOR UPDATE SKIP LOCKED))",
        )
        .bind(retention.resolved_letters.as_secs_f64())
        .bind(retention.inbox.as_secs_f64())
        .execute(pool)
        .await?
        .rows_affected();
        letters += batch;
        if batch < 1000 {
            break;
        }
    }
    let audit = sqlx::query("DELETE FROM dead_letter_audit WHERE at < now() - make_interval(secs => $1)")
        .bind(retention.audit.as_secs_f64())
        .execute(pool)
        .await?
        .rows_affected();
    Ok(Pruned { inbox, letters, audit })
}

/// Prunes once an hour, for as long as the process lives.
pub struct Pruner {
    pool: PgPool,
    retention: Retention,
}

impl Pruner {
    /// Prunes this service's tables by the default [`Retention`].
    pub fn new(pool: PgPool) -> Self {
        Self { pool, retention: Retention::default() }
    }

    /// Returns when `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let pause = Duration::from_secs(rand::rng().random_range(50 * 60..70 * 60));
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            match prune(&self.pool, self.retention).await {
                Ok(pruned) => tracing::info!(
                    inbox_rows = pruned.inbox,
                    letter_rows = pruned.letters,
                    audit_rows = pruned.audit,
                    "pruned"
                ),
                Err(error) => tracing::warn!(%error, "could not prune, will try again in an hour"),
            }
        }
    }
}
