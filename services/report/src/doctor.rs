//! `doctor`: what must not be in the service's tables, or in its part of the bucket.

use chassis::{config::S3Settings, s3};
use chrono::Utc;
use sea_orm::sqlx::PgPool;

use crate::{retention, storage};

/// A sentence for each thing that does not hold.
///
/// # Errors
/// The database or S3 can't be asked.
pub async fn doctor(pool: &PgPool, settings: &S3Settings) -> anyhow::Result<Vec<String>> {
    let mut findings = storage::doctor::doctor(pool).await?;
    let client = s3::client(settings).await;
    findings.extend(retention::overlooked(pool, &client, &settings.bucket, Utc::now()).await?);
    Ok(findings)
}
