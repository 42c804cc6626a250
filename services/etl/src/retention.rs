//! Deletes what is old: ended runs, and records in quarantine that no run has met since.

use chassis::background::sweep_hourly;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::{Resources, collections, storage::runs, target};

/// The background task. Any number may run at once: deleting twice deletes nothing more.
pub struct Retention {
    resources: Resources,
}

impl Retention {
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// Looks once an hour until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        sweep_hourly("runs and records in quarantine", &shutdown, || self.sweep(Utc::now())).await;
    }

    /// Deletes all that is due at `now`. Gives how many rows that was.
    ///
    /// # Errors
    /// A database; what was not deleted is due again.
    pub async fn sweep(&self, now: DateTime<Utc>) -> anyhow::Result<u64> {
        let before = now - chrono::TimeDelta::from_std(self.resources.settings.retention)?;
        let mut deleted = 0;
        loop {
            let batch = runs::purge(&self.resources.database.pool, before).await?;
            deleted += batch;
            if batch == 0 {
                break;
            }
        }
        deleted += collections::purge(&self.resources.database.pool, before).await?;
        if let Some(bsale) = &self.resources.bsale {
            deleted += target::purge_quarantine(&bsale.target.db, before).await?;
        }
        Ok(deleted)
    }
}
