//! Brings the marts up to date when all streams are whole, and holds them back, and says so, while one is not. SQL by hand:
//! it asks whether there is any change in all raw tables at once.

use std::time::Duration;

use chassis::db::orm;
use chrono::Utc;
use sea_orm::sqlx::{self, PgPool};
use tokio_util::sync::CancellationToken;

use super::{
    cache::Dashboards,
    lanes::{Lanes, lanes},
    question::{self, Filters},
    refresh::{self, Refreshed},
    streams::TABLES,
};
use crate::storage::{mart_version, raw_streams};

/// How often it checks.
const PAUSE: Duration = Duration::from_secs(2);

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// A stream is being read (also by a backfill), or never was, or nothing is new.
    Nothing,
    /// The marts stay as they are: why.
    HeldBack(String),
    Refreshed(Refreshed),
}

/// The background task. Any number may run at once: they take turns, and the second finds nothing new.
pub struct Refresher {
    pool: PgPool,
    dashboards: Dashboards,
}

impl Refresher {
    pub fn new(pool: PgPool, dashboards: Dashboards) -> Self {
        Self { pool, dashboards }
    }

    /// Checks again and again until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            match shutdown.run_until_cancelled(self.check()).await {
                None => return,
                Some(Ok(Checked::Nothing)) => {}
                Some(Ok(Checked::HeldBack(reason))) => tracing::debug!(reason, "the marts are held back"),
                Some(Ok(Checked::Refreshed(Refreshed { version, campaigns, days, .. }))) => {
                    tracing::info!(version, campaigns, days, "the dashboards show new data");
                    self.warm().await;
                }
                Some(Err(error)) => {
                    tracing::warn!(error = format!("{error:#}"), "the marts were not refreshed")
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Refreshes the marts where all streams are whole and something is new.
    ///
    /// # Errors
    /// The database.
    pub async fn check(&self) -> anyhow::Result<Checked> {
        let names: Vec<&str> = TABLES.iter().map(|table| table.stream).collect();
        let mut conn = self.pool.acquire().await?;
        let lanes = lanes(&mut conn).await?;
        drop(conn);
        if lanes == Lanes::Busy {
            return Ok(Checked::Nothing);
        }
        let new: bool = sqlx::query_scalar(
            "select exists (select from raw_changes)
                 or (select min(read_at) from raw_streams) is distinct from (select as_of from mart_version)",
        )
        .fetch_one(&self.pool)
        .await?;
        if !new {
            return Ok(Checked::Nothing);
        }
        if let Lanes::Broken(reason) = lanes {
            mart_version::hold_back(&orm(&self.pool), &reason).await?;
            return Ok(Checked::HeldBack(reason));
        }
        // Ended runs are deleted some day; where a stream is, stays.
        let whole = raw_streams::all(&orm(&self.pool)).await?;
        let read =
            names.iter().map(|name| whole.iter().find(|row| row.stream == *name).and_then(|row| row.read_at));
        let Some(as_of) = read.min().flatten() else { return Ok(Checked::Nothing) };
        let refreshed = refresh::refresh(&self.pool, as_of).await?;
        Ok(if refreshed.changed { Checked::Refreshed(refreshed) } else { Checked::Nothing })
    }

    /// Computes what most will ask first.
    async fn warm(&self) {
        let today = question::today(Utc::now());
        let first = [
            question::dashboard(Filters::default(), None, &[], today),
            question::evolution(Filters::default(), None, None, None, &[], today),
            question::assignment(None, None, None, today),
            question::operation(None, today),
            question::productivity(None, None, today),
        ];
        for question in first.into_iter().flatten() {
            if let Err(error) = self.dashboards.ask(question).await {
                tracing::warn!(%error, "a dashboard was not computed ahead");
            }
        }
    }
}
