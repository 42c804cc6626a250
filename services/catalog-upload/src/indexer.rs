//! Follows imports with the words that searches look at.

use std::time::Duration;

use sea_orm::sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::storage::search;

/// Products in a transaction.
const BATCH: i64 = 1_000;
/// How often it looks for more.
const PAUSE: Duration = Duration::from_millis(500);
/// While an import runs, its rows come first; but nobody searches in vain for longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// The background task. Any number may run at once: one works at a time.
pub struct Indexer {
    pool: PgPool,
}

impl Indexer {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Follows until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut away = false;
        let mut waits_since = None;
        while !shutdown.is_cancelled() {
            let indexed = shutdown.run_until_cancelled(self.step(&mut waits_since)).await;
            match indexed {
                None => return,
                Some(Ok(more)) => {
                    away = false;
                    if more {
                        continue;
                    }
                }
                Some(Err(error)) if !away => {
                    away = true;
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "could not index products, will keep trying"
                    );
                }
                Some(Err(_)) => {}
            }
            shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }

    /// Indexes a batch, or waits for imports since the given time. Gives whether there may be more.
    async fn step(&self, waits_since: &mut Option<Instant>) -> anyhow::Result<bool> {
        if search::imports_run(&self.pool).await? {
            let since = *waits_since.get_or_insert_with(Instant::now);
            if since.elapsed() < PATIENCE {
                return Ok(false);
            }
        } else {
            *waits_since = None;
        }
        search::index_next(&self.pool, BATCH).await
    }
}
