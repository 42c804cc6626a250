//! What follows by itself: suppressions whose date has come are applied, the views of contacts are counted again, the ledger has
//! its next days, and those past retention are dropped.

use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use sea_orm::sqlx::{self, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Keep,
    retention::{self, Deleted},
    storage::{imports, ledger, suppressions, views},
};

/// How long a transaction may be open that suppresses somebody.
const LONGEST_TRANSACTION: TimeDelta = TimeDelta::minutes(2);
/// How often it looks for what is past its time.
const RETENTION: Duration = Duration::from_secs(24 * 3_600);

/// The background task. Any number may run at once: one works, the others find that nothing is due.
pub struct Upkeep {
    pool: PgPool,
    every: Duration,
    /// Dates up to then are applied.
    applied: DateTime<Utc>,
    /// The last day that the ledger surely has.
    days_until: Option<NaiveDate>,
    keep: Keep,
    /// When it looked last for what is past its time.
    deleted_at: Option<Instant>,
}

impl Upkeep {
    /// Counts again when the counts are older than `every`; looks for dates four times as often, once a minute at least.
    pub fn new(pool: PgPool, every: Duration, keep: Keep) -> Self {
        // Days without any worker are caught up with when the counts are refreshed.
        let applied = Utc::now() - TimeDelta::days(1);
        Self { pool, every, applied, days_until: None, keep, deleted_at: None }
    }

    /// Works until `shutdown` is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let pause = (self.every / 4).clamp(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            match shutdown.run_until_cancelled(self.turn()).await {
                None => return,
                Some(Ok(None)) => {}
                Some(Ok(Some(opted_out))) => tracing::info!(opted_out, "counts of contacts are new"),
                Some(Err(error)) => {
                    tracing::warn!(error = %format!("{error:#}"), "counts of contacts stay as they were");
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Makes the ledger's next days ahead of their campaigns.
    async fn days(&mut self, today: NaiveDate) -> sqlx::Result<()> {
        if self.days_until.is_some_and(|day| day > today) {
            return Ok(());
        }
        let mut conn = self.pool.acquire().await?;
        for day in [today, today + Days::new(1)] {
            ledger::ensure_day(&mut conn, day).await?;
        }
        self.days_until = Some(today + Days::new(1));
        Ok(())
    }

    /// Does what is due. Gives how many contacts a suppression took out; none where nothing was due.
    async fn turn(&mut self) -> anyhow::Result<Option<u64>> {
        // A date that comes does not wait for an import, which may take hours.
        if let Some(until) = suppressions::apply_since(&self.pool, self.applied).await? {
            // What began before and is committed after was not seen yet.
            self.applied = until - LONGEST_TRANSACTION;
        }
        let today = Utc::now().date_naive();
        self.days(today).await?;
        if self.deleted_at.is_none_or(|at| at.elapsed() >= RETENTION) {
            let deleted = retention::delete(&self.pool, &self.keep, today).await?;
            if deleted != Deleted::default() {
                tracing::info!(days = deleted.days, rows = deleted.rows, "past retention, and deleted");
            }
            self.deleted_at = Some(Instant::now());
        }
        let rows = retention::audiences(&self.pool, &self.keep, Utc::now()).await?;
        if rows > 0 {
            tracing::info!(rows, "people of audiences' files are deleted");
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
