//! Files of people in the bucket, contacts or audiences: personal data, of which nothing needs to stay once it was read.

use std::{collections::HashSet, time::Duration};

use aws_sdk_s3::Client;
use chassis::{background::sweep_hourly, db, lock, s3};
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use sea_orm::sqlx::{self, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{
    Resources,
    storage::{audience_files, imports},
};

/// The lock between imports of files that are in the bucket already, which share it from their look at the file to their row,
/// and sweeps, which hold it alone from their look at the rows to the deletion.
pub const USES: &str = "contact files used";

/// Where uploaded files of contacts are, and where files that are there already must be.
pub const CONTACT_FILES: &str = "contacts/";
/// Where uploaded files are whose people are audiences.
pub const AUDIENCE_FILES: &str = "audiences/";
/// Where files of people are in the bucket.
const PREFIXES: [&str; 2] = [CONTACT_FILES, AUDIENCE_FILES];

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
        let Resources { database, s3: client, bucket, settings, .. } = &self.resources;
        let look = || sweep(&database.pool, client, bucket, settings.keep_files, Utc::now());
        sweep_hourly("files of contacts", &shutdown, look).await;
    }
}

/// Deletes the files that are older than `keep`, and than an hour, and that no import needs: theirs ended longer ago than
/// `keep`, or there is none; and those of audiences that are an hour old and not to be read any more. Gives how many.
///
/// # Errors
/// The database or S3; what was not deleted is due again.
pub async fn sweep(
    pool: &PgPool,
    client: &Client,
    bucket: &str,
    keep: Duration,
    now: DateTime<Utc>,
) -> anyhow::Result<u64> {
    let mut turn = pool.begin().await?;
    if !lock::try_hold(&mut turn, "contact files").await? {
        return Ok(0);
    }
    db::allow_idle(&mut turn).await?;
    let mut deleted = 0;
    for prefix in PREFIXES {
        let mut pages = std::pin::pin!(s3::list(client, bucket, prefix));
        while let Some(page) = pages.try_next().await? {
            // A page at a time, so that nobody's import waits for the whole bucket.
            let mut alone = pool.begin().await?;
            lock::hold(&mut alone, USES).await?;
            db::allow_idle(&mut alone).await?;
            let due = due(&mut alone, prefix, keep, now, page).await?;
            s3::delete(client, bucket, &due).await?;
            alone.commit().await?;
            deleted += due.len() as u64;
        }
    }
    turn.commit().await?;
    Ok(deleted)
}

/// Of a page of the bucket below one of the prefixes, what a sweep deletes. A file that is fresh stays under any key: an import that used the key before
/// used another file.
async fn due(
    conn: &mut PgConnection,
    prefix: &str,
    keep: Duration,
    now: DateTime<Utc>,
    page: Vec<s3::Listed>,
) -> sqlx::Result<Vec<String>> {
    // Who loaded an audience has deleted its file at once, unless something failed.
    let keep = if prefix == AUDIENCE_FILES { Duration::ZERO } else { keep };
    let orphan_before = (now - keep.max(ORPHAN_AGE)).timestamp();
    let keys: Vec<String> = page.iter().map(|object| object.key.clone()).collect();
    let uses = match prefix {
        AUDIENCE_FILES => audience_files::uses_of(conn, &keys).await?,
        _ => imports::uses_of(conn, &keys, now - keep).await?,
    };
    let needed: HashSet<_> = uses.iter().filter(|(_, needed)| *needed).map(|(key, _)| key.as_str()).collect();
    let is_due =
        |object: &s3::Listed| object.modified < orphan_before && !needed.contains(object.key.as_str());
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
    let mut conn = pool.acquire().await?;
    for prefix in PREFIXES {
        let mut pages = std::pin::pin!(s3::list(client, bucket, prefix));
        while let Some(page) = pages.try_next().await? {
            overlooked.extend(due(&mut conn, prefix, keep, now - s3::SWEEPS_BEHIND, page).await?);
        }
    }
    Ok(s3::findings(&overlooked))
}
