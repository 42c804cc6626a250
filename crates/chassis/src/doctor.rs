//! `doctor`: what must not be in a service's database, a line each.

use std::process::ExitCode;

use anyhow::Context as _;
use sea_orm::sqlx::{self, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{config::DatabaseSettings, db};

/// Looks into the outbox, the jobs, and with `own` into what only this service has. Gives a line for each finding.
///
/// # Errors
/// The database can't be asked.
pub async fn look(
    service: &str,
    settings: &DatabaseSettings,
    shutdown: &CancellationToken,
    own: impl AsyncFnOnce(&PgPool) -> sqlx::Result<Vec<String>>,
) -> anyhow::Result<Vec<String>> {
    let database = db::connect(settings, &format!("{service} doctor"), shutdown).await?;
    let mut findings = outbox::doctor(&database.pool).await.context("looking into the outbox")?;
    findings.extend(jobs::doctor(&database.pool).await.context("looking into the jobs")?);
    findings.extend(own(&database.pool).await.with_context(|| format!("looking into {service}"))?);
    Ok(findings)
}

/// Prints what was found; a finding is a failure.
pub fn tell(service: &str, findings: &[String]) -> ExitCode {
    for finding in findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("{service}: nothing wrong");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
