//! Deletes what is old: files in S3, days of campaigns with their rows; and what dead workers left in the bucket.

use chassis::{
    background::sweep_hourly,
    db::{self, Orm},
    lock, s3,
};
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Resources,
    abandoned_uploads::{self, FOLDER},
    storage::{files, retention},
};

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
        sweep_hourly("files and days", &shutdown, || self.sweep(Utc::now())).await;
    }

    /// Deletes all that is due now. Gives how many runs, days and abandoned files that was.
    ///
    /// # Errors
    /// The database or S3; what was not deleted is due again.
    pub async fn sweep(&self, now: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { database, s3: client, bucket, settings, .. } = &self.resources;
        let pool = &database.pool;
        let mut turn = pool.begin().await?;
        if !lock::try_hold(&mut turn, "retention").await? {
            return Ok(0);
        }
        db::allow_idle(&mut turn).await?;
        let mut deleted = 0;
        loop {
            let due = retention::due_runs(&database.orm, settings.file_retention, BATCH).await?;
            for run in &due {
                let mut transaction = pool.begin().await?;
                db::allow_idle(&mut transaction).await?;
                if !retention::hold_due(&mut transaction, *run, settings.file_retention).await? {
                    continue;
                }
                let files = files::of_run(&Orm::on(&mut transaction), *run).await?;
                let keys: Vec<String> = files.into_iter().filter_map(|file| file.object_key).collect();
                // The files first: once the row says that they are gone, nobody would look for them.
                s3::delete(client, bucket, &keys).await?;
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
        deleted += self.abandoned(now - ORPHAN_AGE).await?;
        turn.commit().await?;
        Ok(deleted)
    }

    /// Parts and objects of attempts whose run has ended without them.
    async fn abandoned(&self, before: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { database, s3: client, bucket, .. } = &self.resources;
        let run_of = |key: &str| key.split('/').nth(1).and_then(|id| Uuid::parse_str(id).ok());
        let mut deleted = 0;
        for upload in abandoned_uploads::unfinished(client, bucket, FOLDER).await? {
            let ended = match run_of(&upload.key) {
                Some(run) => retention::has_ended(&database.orm, run).await?,
                None => true,
            };
            if ended {
                abandoned_uploads::discard(client, bucket, &[upload]).await?;
                deleted += 1;
            }
        }
        let mut page = s3::list(client, bucket, FOLDER, None).await?;
        while let Some(last) = page.last().map(|object| object.key.clone()) {
            let old = page.into_iter().filter(|object| object.modified < before.timestamp());
            let old: Vec<String> = old.map(|object| object.key).filter(|key| run_of(key).is_some()).collect();
            let unknown = retention::unknown(&database.pool, &old).await?;
            s3::delete(client, bucket, &unknown).await?;
            deleted += unknown.len() as u64;
            page = s3::list(client, bucket, FOLDER, Some(&last)).await?;
        }
        Ok(deleted)
    }
}
