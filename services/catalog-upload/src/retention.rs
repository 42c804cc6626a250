//! Deletes what is old: files and reports in S3, the ledgers that go with them, and jobs whose annotated workbook is gone.
//! Also files that no row names: an upload that died between the two.

use aws_sdk_s3::Client;
use chassis::{background::sweep_hourly, db, lock, s3};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{Stream, TryStreamExt as _};
use sea_orm::sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    Resources,
    jobs::annotate_import,
    storage::{retention, search},
};

/// Imports deleted before it looks whether to stop.
const BATCH: i64 = 100;
/// An upload takes less: a file this old without a row will not get one.
const ORPHAN_AGE: TimeDelta = TimeDelta::hours(24);
/// What the service keeps in the bucket.
const PREFIXES: [&str; 2] = ["uploads/", "reports/"];

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
        sweep_hourly("uploads", &shutdown, || self.sweep(Utc::now())).await;
    }

    /// Deletes all that is due now. Gives how many imports, jobs and files that was.
    ///
    /// # Errors
    /// The database or S3; what was not deleted is due again. An import whose files can't be deleted keeps nothing else.
    pub async fn sweep(&self, now: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { s3: client, bucket, database, .. } = &self.resources;
        let pool = &database.pool;
        let mut turn = pool.begin().await?;
        if !lock::try_hold(&mut turn, "retention").await? {
            return Ok(0);
        }
        db::allow_idle(&mut turn).await?;
        let (mut deleted, mut failed) = (0, None);
        let (age, mut after) = (self.resources.settings.retention, None);
        loop {
            let due = retention::due(pool, age, after, BATCH).await?;
            after = due.last().copied();
            for (import, _) in &due {
                let mut transaction = pool.begin().await?;
                db::allow_idle(&mut transaction).await?;
                let Some(import) = retention::hold_due(&mut transaction, *import, age).await? else {
                    continue;
                };
                let keys = import.report_key.iter().chain((!import.shared).then_some(&import.object_key));
                // The files first: once the row says that they are gone, nobody would look for them.
                let keys: Vec<String> = keys.cloned().collect();
                if let Err(error) = s3::delete(client, bucket, &keys).await {
                    tracing::warn!(import = %import.id, error = format!("{error:#}"), "files of an import not deleted");
                    failed = Some(error);
                    continue;
                }
                retention::purge(pool, &mut transaction, import.id).await?;
                transaction.commit().await?;
                deleted += 1;
            }
            if due.len() < BATCH as usize {
                break;
            }
        }
        search::forget_strays(pool).await?;
        // The job of an import is its status, which stays.
        let workbooks = annotate_import::kind(&self.resources.settings).name;
        let before = now - TimeDelta::from_std(age)?;
        deleted += ::jobs::delete_ended(pool, &[workbooks], before, &[("import_reports", "job_id")]).await?;
        for prefix in PREFIXES {
            deleted += self.orphans(prefix, now - ORPHAN_AGE).await?;
        }
        turn.commit().await?;
        failed.map_or(Ok(deleted), |error| Err(error.context("some files are not deleted")))
    }

    async fn orphans(&self, prefix: &str, before: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { s3: client, bucket, database, .. } = &self.resources;
        s3::sweep(client, bucket, strays(&database.pool, client, bucket, prefix, before)).await
    }
}

/// Objects that no import names.
fn strays<'a>(
    pool: &'a PgPool,
    client: &'a Client,
    bucket: &'a str,
    prefix: &'a str,
    before: DateTime<Utc>,
) -> impl Stream<Item = anyhow::Result<Vec<String>>> + 'a {
    s3::strays(client, bucket, prefix, before, move |keys| retention::unnamed(pool, keys))
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
    let mut findings = Vec::new();
    for prefix in PREFIXES {
        let before = now - ORPHAN_AGE - s3::SWEEPS_BEHIND;
        let strays = strays(pool, client, bucket, prefix, before).try_concat().await?;
        findings.extend(s3::findings(&strays));
    }
    Ok(findings)
}
