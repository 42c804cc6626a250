//! `doctor`: what must not be in the service's tables, or in its part of the bucket.

use chassis::{config::S3Settings, s3};
use chrono::Utc;
use sea_orm::sqlx::PgPool;

use crate::{retention, storage};

/// A sentence for each thing that does not hold.
///
/// # Errors
/// The database can't be asked. A bucket that can't is a finding.
pub async fn doctor(pool: &PgPool, settings: &S3Settings) -> anyhow::Result<Vec<String>> {
    let mut findings = storage::doctor::doctor(pool).await?;
    let client = s3::client(settings).await;
    let overlooked = retention::overlooked(pool, &client, &settings.bucket, Utc::now()).await;
    findings.extend(s3::or_unasked(overlooked)?);
    Ok(findings)
}
