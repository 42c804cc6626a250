//! Deletes what is old: files in S3, days of campaigns with their rows; and what dead workers left in the bucket.

use std::time::Duration;

use chassis::db::Orm;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Resources,
    leftovers::{self, FOLDER},
    storage::{files, retention},
};

/// How often it looks.
const PAUSE: Duration = Duration::from_secs(60 * 60);
/// Runs whose files are deleted before it looks for more.
const BATCH: u64 = 100;
/// A file takes less to make: an object this old that no row names will not get one.
const ORPHAN_AGE: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// The background task. Any number may run at once: one works, the others wait for the next hour.
pub struct Retention {
    resources: Resources,
}

impl Retention {
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// Looks once an hour until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            match shutdown.run_until_cancelled(self.sweep(Utc::now())).await {
                None => return,
                Some(Ok(0)) => {}
                Some(Ok(deleted)) => tracing::info!(deleted, "old files and days deleted"),
                Some(Err(error)) => {
                    tracing::warn!(error = format!("{error:#}"), "old files and days not deleted");
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Deletes all that is due now. Gives how many runs, days and leftovers that was.
    ///
    /// # Errors
    /// The database or S3; what was not deleted is due again.
    pub async fn sweep(&self, now: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { database, s3, bucket, settings, .. } = &self.resources;
        let pool = &database.pool;
        let mut turn = pool.begin().await?;
        if !retention::try_turn(&mut turn).await? {
            return Ok(0);
        }
        let mut deleted = 0;
        loop {
            let due = retention::due_runs(&database.orm, settings.file_retention, BATCH).await?;
            for run in &due {
                let mut transaction = pool.begin().await?;
                retention::wait_for_storage(&mut transaction).await?;
                if !retention::hold_due(&mut transaction, *run, settings.file_retention).await? {
                    continue;
                }
                let files = files::of_run(&Orm::on(&mut transaction), *run).await?;
                let keys: Vec<String> = files.into_iter().filter_map(|file| file.object_key).collect();
                // The files first: once the row says that they are gone, nobody would look for them.
                leftovers::delete(s3, bucket, &keys).await?;
                retention::purged(&mut transaction, *run).await?;
                transaction.commit().await?;
                deleted += 1;
            }
            if (due.len() as u64) < BATCH {
                break;
            }
        }
        for day in retention::old_days(pool, settings.first_day(now)).await? {
            retention::drop_day(pool, day).await?;
            tracing::info!(%day, "a day of campaigns deleted for its age");
            deleted += 1;
        }
        deleted += self.leftovers(now - ORPHAN_AGE).await?;
        turn.commit().await?;
        Ok(deleted)
    }

    /// Parts and objects of attempts whose run has ended without them.
    async fn leftovers(&self, before: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { database, s3, bucket, .. } = &self.resources;
        let mut deleted = 0;
        for upload in leftovers::unfinished(s3, bucket, FOLDER).await? {
            let run = upload.key.split('/').nth(1).and_then(|id| Uuid::parse_str(id).ok());
            let ended = match run {
                Some(run) => retention::has_ended(&database.orm, run).await?,
                None => true,
            };
            if ended {
                leftovers::discard(s3, bucket, &[upload]).await?;
                deleted += 1;
            }
        }
        let old = leftovers::objects(s3, bucket, FOLDER)
            .await?
            .into_iter()
            .filter(|(key, modified)| {
                let named = key.split('/').nth(1).is_some_and(|id| Uuid::parse_str(id).is_ok());
                named && *modified < before.timestamp()
            })
            .map(|(key, _)| key);
        let old: Vec<String> = old.collect();
        for keys in old.chunks(1_000) {
            let unknown = retention::unknown(&database.pool, keys).await?;
            leftovers::delete(s3, bucket, &unknown).await?;
            deleted += unknown.len() as u64;
        }
        Ok(deleted)
    }
}
