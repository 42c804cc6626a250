//! `doctor`: what must not be in the service's tables, or in its part of the bucket.

use chassis::{
    config::{Env, S3Settings},
    s3,
};
use chrono::Utc;
use sea_orm::sqlx::PgPool;

use crate::{config::ImportSettings, contact_files, storage};

/// What it has to know.
pub struct Settings {
    s3: S3Settings,
    imports: ImportSettings,
}

impl Settings {
    /// [`S3Settings::read`] and [`ImportSettings::read`].
    pub fn read(env: &mut Env) -> Self {
        Self { s3: S3Settings::read(env), imports: ImportSettings::read(env) }
    }
}

/// A sentence for each thing that does not hold.
///
/// # Errors
/// The database can't be asked. A bucket that can't is a finding.
pub async fn doctor(pool: &PgPool, settings: &Settings) -> anyhow::Result<Vec<String>> {
    let mut findings = storage::doctor::doctor(pool).await?;
    let (client, bucket) = (s3::client(&settings.s3).await, &settings.s3.bucket);
    let keep = settings.imports.keep_files;
    let overlooked = contact_files::overlooked(pool, &client, bucket, keep, Utc::now()).await;
    findings.extend(s3::or_unasked(overlooked)?);
    Ok(findings)
}
