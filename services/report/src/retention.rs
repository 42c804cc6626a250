//! Deletes what is old: files in S3, days of campaigns with their rows, their runs and the runs' jobs; and what dead workers
//! left in the bucket.

use aws_sdk_s3::Client;
use chassis::{
    background::sweep_hourly,
    db::{self, Orm},
    lock, s3,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{Stream, TryStreamExt as _};
use sea_orm::sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    Resources,
    abandoned_uploads::{self, FOLDER},
    jobs::{export_campaign, start_run},
    storage::{files, retention},
};

/// Runs whose files are deleted before it looks for more.
const BATCH: u64 = 100;
/// A file takes less to make: an object this old that no row names will not get one.
const ORPHAN_AGE: TimeDelta = TimeDelta::hours(24);

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

    /// Deletes all that is due now. Gives how many runs, days, jobs and abandoned files that was.
    ///
    /// # Errors
    /// The database or S3; what was not deleted is due again. A run whose files can't be deleted keeps nothing else.
    pub async fn sweep(&self, now: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { database, s3: client, bucket, settings, .. } = &self.resources;
        let pool = &database.pool;
        let mut turn = pool.begin().await?;
        if !lock::try_hold(&mut turn, "retention").await? {
            return Ok(0);
        }
        db::allow_idle(&mut turn).await?;
        let (mut deleted, mut failed) = (0, None);
        let mut after = None;
        loop {
            let due = retention::due_runs(&database.orm, settings.file_retention, after, BATCH).await?;
            after = due.last().copied();
            for (run, _) in &due {
                let mut transaction = pool.begin().await?;
                db::allow_idle(&mut transaction).await?;
                if !retention::hold_due(&mut transaction, *run, settings.file_retention).await? {
                    continue;
                }
                let files = files::of_run(&Orm::on(&mut transaction), *run).await?;
                let keys: Vec<String> = files.into_iter().filter_map(|file| file.object_key).collect();
                // The files first: once the row says that they are gone, nobody would look for them.
                if let Err(error) = s3::delete(client, bucket, &keys).await {
                    tracing::warn!(%run, error = format!("{error:#}"), "files of a run not deleted");
                    failed = Some(error);
                    continue;
                }
                retention::purged(&mut transaction, *run).await?;
                transaction.commit().await?;
                deleted += 1;
            }
            if (due.len() as u64) < BATCH {
                break;
            }
        }
        let first_day = settings.first_day(now);
        for day in retention::old_days(pool, first_day).await? {
            retention::drop_day(pool, day).await?;
            tracing::info!(%day, "a day of campaigns deleted for its age");
            deleted += 1;
        }
        deleted += retention::forget_runs(pool, first_day).await?;
        // A run and its files show what became of their jobs for as long as they are there.
        let kinds = [start_run::kind(settings).name, export_campaign::KIND];
        let before = now - TimeDelta::from_std(settings.file_retention)?;
        let references = [("runs", "id"), ("run_files", "job_id")];
        deleted += ::jobs::delete_ended(pool, &kinds, before, &references).await?;
        deleted += self.abandoned(now - ORPHAN_AGE).await?;
        turn.commit().await?;
        failed.map_or(Ok(deleted), |error| Err(error.context("some files are not deleted")))
    }

    /// Parts and objects of attempts whose run has ended without them.
    async fn abandoned(&self, before: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { database, s3: client, bucket, .. } = &self.resources;
        let mut deleted = 0;
        for upload in abandoned_uploads::unfinished(client, bucket, FOLDER).await? {
            let ended = match abandoned_uploads::run(&upload.key) {
                Some(run) => retention::has_ended(&database.orm, run).await?,
                None => true,
            };
            if ended {
                abandoned_uploads::discard(client, bucket, &[upload]).await?;
                deleted += 1;
            }
        }
        deleted += s3::sweep(client, bucket, strays(&database.pool, client, bucket, before)).await?;
        Ok(deleted)
    }
}

/// Objects that no run's file names, or will.
fn strays<'a>(
    pool: &'a PgPool,
    client: &'a Client,
    bucket: &'a str,
    before: DateTime<Utc>,
) -> impl Stream<Item = anyhow::Result<Vec<String>>> + 'a {
    s3::strays(client, bucket, FOLDER, before, move |keys| {
        // What isn't the key of a run's file is somebody else's.
        let of_runs = keys.into_iter().filter_map(|key| abandoned_uploads::run(&key).map(|run| (key, run)));
        retention::unnamed(pool, of_runs.collect())
    })
}

/// A sentence for each object that a sweep should have deleted some hours ago.
///
/// # Errors
/// The database or S3.
pub async fn overlooked(
    pool: &PgPool,
    client: &Client,
    bucket: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<String>> {
    let strays = strays(pool, client, bucket, now - ORPHAN_AGE - s3::SWEEPS_BEHIND).try_concat().await?;
    Ok(s3::findings(&strays))
}
