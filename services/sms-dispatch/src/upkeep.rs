//! What follows by itself: suppressions whose date has come are applied, the views of contacts are counted again, and ledgers
//! past retention are dropped.

use std::time::Duration;

use chrono::{DateTime, Days, TimeDelta, Utc};
use sea_orm::sqlx::{self, PgPool};
use tokio_util::sync::CancellationToken;

use crate::storage::{imports, ledger, suppressions, views};

/// How long it is known who was sent what, in days.
const LEDGER_DAYS: u64 = 730;

/// The background task. Any number may run at once: one works, the others find that nothing is due.
pub struct Upkeep {
    pool: PgPool,
    every: Duration,
    /// Dates up to then are applied.
    applied: DateTime<Utc>,
}

impl Upkeep {
    /// Counts again when the counts are older than `every`; looks for dates four times as often, once a minute at least.
    pub fn new(pool: PgPool, every: Duration) -> Self {
        // Days without any worker are caught up with when the counts are refreshed.
        Self { pool, every, applied: Utc::now() - TimeDelta::days(1) }
    }

    /// Works until `shutdown` is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let pause = (self.every / 4).clamp(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            match shutdown.run_until_cancelled(self.turn()).await {
                None => return,
                Some(Ok(None)) => {}
                Some(Ok(Some(opted_out))) => tracing::info!(opted_out, "counts of contacts are new"),
                Some(Err(error)) => tracing::warn!(%error, "counts of contacts stay as they were"),
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Does what is due. Gives how many contacts a suppression took out; none where nothing was due.
    async fn turn(&mut self) -> sqlx::Result<Option<u64>> {
        // A date that comes does not wait for an import, which may take hours.
        if let Some(until) = suppressions::apply_since(&self.pool, self.applied).await? {
            self.applied = until;
        }
        let kept_since = Utc::now().date_naive() - Days::new(LEDGER_DAYS);
        let dropped = ledger::drop_before(&self.pool, kept_since).await?;
        if dropped > 0 {
            tracing::info!(days = dropped, "ledgers of campaigns are past retention");
        }
        if !views::older_than(&self.pool, self.every).await? {
            return Ok(None);
        }
        // The turn of imports: one that fills an empty table has no indexes meanwhile, and counts again when it ends.
        let mut turn = self.pool.begin().await?;
        if !imports::try_turn(&mut turn).await? {
            return Ok(None);
        }
        let opted_out = suppressions::apply(&self.pool).await?;
        views::refresh(&self.pool).await?;
        turn.commit().await?;
        Ok(Some(opted_out))
    }
}
