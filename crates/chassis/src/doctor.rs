//! `doctor`: what must not be in a service's database, a line each.

use std::process::ExitCode;

use anyhow::Context as _;
use sea_orm::sqlx::{self, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{config::DatabaseSettings, db};

/// Checks the outbox, the jobs, and with `own` what only this service has. Gives a line for each finding.
///
/// # Errors
/// The database can't be asked.
pub async fn check<E: Into<anyhow::Error>>(
    service: &str,
    settings: &DatabaseSettings,
    shutdown: &CancellationToken,
    own: impl AsyncFnOnce(&PgPool) -> Result<Vec<String>, E>,
) -> anyhow::Result<Vec<String>> {
    let database = db::connect(settings, &format!("{service} doctor"), shutdown).await?;
    let mut findings = outbox::doctor(&database.pool).await.context("checking the outbox")?;
    findings.extend(jobs::doctor(&database.pool).await.context("checking the jobs")?);
    let own = own(&database.pool).await.map_err(Into::into);
    findings.extend(own.with_context(|| format!("checking {service}"))?);
    Ok(findings)
}

/// What the checks find, in their order: each is a query that yields a sentence a finding.
///
/// # Errors
/// The database can't be asked.
pub async fn findings(pool: &PgPool, checks: &'static [&'static str]) -> sqlx::Result<Vec<String>> {
    let mut findings = Vec::new();
    for check in checks {
        findings.extend(sqlx::query_scalar::<_, String>(*check).fetch_all(pool).await?);
    }
    Ok(findings)
}

/// Prints what was found; a finding is a failure.
pub fn report(service: &str, findings: &[String]) -> ExitCode {
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
