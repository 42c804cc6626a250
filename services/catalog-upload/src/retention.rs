//! Deletes what is old: files and reports in S3, and the ledgers that go with them. Also files that no row
//! names: an upload that died between the two.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_s3::{
    error::DisplayErrorContext,
    types::{Delete, ObjectIdentifier},
};
use chrono::{DateTime, Utc};
use sea_orm::sqlx;
use tokio_util::sync::CancellationToken;

use crate::{
    Resources,
    storage::{retention, search},
};

/// How often it looks.
const PAUSE: Duration = Duration::from_secs(60 * 60);
/// Imports deleted before it looks whether to stop.
const BATCH: i64 = 100;
/// An upload takes less: a file this old without a row will not get one.
const ORPHAN_AGE: chrono::TimeDelta = chrono::TimeDelta::hours(24);
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
        loop {
            match shutdown.run_until_cancelled(self.sweep(Utc::now())).await {
                None => return,
                Some(Ok(0)) => {}
                Some(Ok(deleted)) => tracing::info!(deleted, "old uploads deleted"),
                Some(Err(error)) => tracing::warn!(error = format!("{error:#}"), "old uploads not deleted"),
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Deletes all that is due now. Gives how many imports and files that was.
    ///
    /// # Errors
    /// The database or S3; what was not deleted is due again.
    pub async fn sweep(&self, now: DateTime<Utc>) -> anyhow::Result<u64> {
        let pool = &self.resources.database.pool;
        // Held by its connection: it ends with the process, however that ends.
        let mut turn = pool.begin().await?;
        let mine: bool = sqlx::query_scalar(
            "select pg_try_advisory_xact_lock(hashtext('retention ' || current_schema()))",
        )
        .fetch_one(&mut *turn)
        .await?;
        if !mine {
            return Ok(0);
        }
        sqlx::query("set local idle_in_transaction_session_timeout = 0").execute(&mut *turn).await?;
        let mut deleted = 0;
        loop {
            let due = retention::due(pool, self.resources.settings.retention, BATCH).await?;
            for import in &due {
                let mut transaction = pool.begin().await?;
                sqlx::query("set local idle_in_transaction_session_timeout = 0")
                    .execute(&mut *transaction)
                    .await?;
                let age = self.resources.settings.retention;
                let Some(import) = retention::hold_due(&mut transaction, *import, age).await? else {
                    continue;
                };
                let keys = import.report_key.iter().chain((!import.shared).then_some(&import.object_key));
                // The files first: once the row says that they are gone, nobody would look for them.
                self.delete(keys.cloned().collect()).await?;
                retention::purge(pool, &mut transaction, import.id).await?;
                transaction.commit().await?;
                deleted += 1;
            }
            if due.len() < BATCH as usize {
                break;
            }
        }
        search::forget_strays(pool).await?;
        for prefix in PREFIXES {
            deleted += self.orphans(prefix, now - ORPHAN_AGE).await?;
        }
        turn.commit().await?;
        Ok(deleted)
    }

    async fn orphans(&self, prefix: &str, before: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { s3, bucket, database, .. } = &self.resources;
        let mut pages = s3.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        let mut deleted = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| anyhow::anyhow!("{}", DisplayErrorContext(error)))?;
            let old = page
                .contents()
                .iter()
                .filter(|object| object.last_modified().is_some_and(|time| time.secs() < before.timestamp()));
            let keys: Vec<String> = old.filter_map(|object| object.key().map(str::to_owned)).collect();
            let unknown = retention::unknown(&database.pool, &keys).await?;
            deleted += unknown.len() as u64;
            self.delete(unknown).await?;
        }
        Ok(deleted)
    }

    async fn delete(&self, keys: Vec<String>) -> anyhow::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let objects = keys.into_iter().map(|key| ObjectIdentifier::builder().key(key).build());
        let objects = objects.collect::<Result<Vec<_>, _>>().context("naming the objects")?;
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build()?;
        let request = self.resources.s3.delete_objects().bucket(&self.resources.bucket).delete(delete);
        let answer =
            request.send().await.map_err(|error| anyhow::anyhow!("{}", DisplayErrorContext(error)))?;
        match answer.errors().first() {
            None => Ok(()),
            Some(error) => anyhow::bail!("{:?} was not deleted: {:?}", error.key(), error.message()),
        }
    }
}
