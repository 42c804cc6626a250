//! Files of contacts in the bucket: personal data, of which nothing needs to stay once the import has read it.

use std::{collections::HashSet, time::Duration};

use aws_sdk_s3::Client;
use chassis::{background::sweep_hourly, db, lock, s3};
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use sea_orm::sqlx::{self, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{Resources, http::CONTACT_FILES, storage::imports};

/// An upload takes less from its last byte to its row: what no row names for so long is nobody's.
const ORPHAN_AGE: Duration = Duration::from_secs(60 * 60);

/// Deletes them. Any number may run at once: one works, the others wait for the next hour.
pub struct ContactFiles {
    resources: Resources,
}

impl ContactFiles {
    pub fn new(resources: Resources) -> Self {
        Self { resources }
    }

    /// Looks once an hour until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        sweep_hourly("files of contacts", &shutdown, || self.sweep(Utc::now())).await;
    }

    /// Deletes the files whose import ended longer ago than they are kept, and those of no import that are as old.
    /// Gives how many.
    ///
    /// # Errors
    /// The database or S3; what was not deleted is due again.
    pub async fn sweep(&self, now: DateTime<Utc>) -> anyhow::Result<u64> {
        let Resources { database, s3: client, bucket, settings, .. } = &self.resources;
        let mut turn = database.pool.begin().await?;
        if !lock::try_hold(&mut turn, "contact files").await? {
            return Ok(0);
        }
        db::allow_idle(&mut turn).await?;
        let mut deleted = 0;
        let mut pages = std::pin::pin!(s3::list(client, bucket, CONTACT_FILES));
        while let Some(page) = pages.try_next().await? {
            let due = due(&database.pool, settings.keep_files, now, page).await?;
            s3::delete(client, bucket, &due).await?;
            deleted += due.len() as u64;
        }
        turn.commit().await?;
        Ok(deleted)
    }
}

/// Of a page of the bucket, what a sweep deletes: files whose import ended longer ago than they are kept, and those of no
/// import that are as old.
async fn due(
    pool: &PgPool,
    keep: Duration,
    now: DateTime<Utc>,
    page: Vec<s3::Listed>,
) -> sqlx::Result<Vec<String>> {
    let orphan_before = (now - keep.max(ORPHAN_AGE)).timestamp();
    let keys: Vec<String> = page.iter().map(|object| object.key.clone()).collect();
    let uses = imports::uses_of(pool, &keys, now - keep).await?;
    let (named, needed): (HashSet<_>, HashSet<_>) = (
        uses.iter().map(|(key, _)| key.as_str()).collect(),
        uses.iter().filter(|(_, needed)| *needed).map(|(key, _)| key.as_str()).collect(),
    );
    let is_due = |object: &s3::Listed| match named.contains(object.key.as_str()) {
        true => !needed.contains(object.key.as_str()),
        false => object.modified < orphan_before,
    };
    Ok(page.into_iter().filter(is_due).map(|object| object.key).collect())
}

/// A sentence for each file that a sweep should have deleted some hours ago.
///
/// # Errors
/// The database or S3.
pub async fn overlooked(
    pool: &PgPool,
    client: &Client,
    bucket: &str,
    keep: Duration,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<String>> {
    let mut overlooked = Vec::new();
    let mut pages = std::pin::pin!(s3::list(client, bucket, CONTACT_FILES));
    while let Some(page) = pages.try_next().await? {
        overlooked.extend(due(pool, keep, now - s3::SWEEPS_BEHIND, page).await?);
    }
    Ok(s3::findings(&overlooked))
}
