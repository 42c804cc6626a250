use sea_orm::sqlx::{self, PgPool};

use crate::Error;

/// Each query yields one row a finding, as a sentence. The thresholds leave a working sweeper ample time.
const CHECKS: &[&str] = &[
    "SELECT format('jobs: %s %s is running but its lease lapsed %s s ago and nobody took it over', kind, id,
            extract(epoch FROM now() - lease_until)::bigint)
     FROM jobs WHERE state = 'running' AND lease_until < now() - interval '2 minutes' LIMIT 20",
    "SELECT format('jobs: %s %s has been due for %s s, %s nudges went unanswered', kind, id,
            extract(epoch FROM now() - next_run_at)::bigint, nudges)
     FROM jobs WHERE state = 'pending' AND next_run_at < now() - interval '10 minutes' LIMIT 20",
    "SELECT format('jobs: %s %s counts %s processed, but %s successful and %s failed', kind, id, processed,
            successful, failed)
     FROM jobs WHERE processed <> successful + failed LIMIT 20",
    "SELECT format('jobs: %s %s is completed with %s of %s processed', kind, id, processed, total)
     FROM jobs WHERE state = 'completed' AND total <> processed LIMIT 20",
    "SELECT format('jobs: %s %s has had %s attempts of %s', kind, id, attempts, max_attempts)
     FROM jobs WHERE attempts > max_attempts LIMIT 20",
    "SELECT format('jobs: %s %s was asked to end %s s ago and still runs', kind, id,
            extract(epoch FROM now() - cancel_requested_at)::bigint)
     FROM jobs WHERE state IN ('pending', 'running') AND cancel_requested_at < now() - interval '5 minutes'
     LIMIT 20",
];

/// Checks what must hold of the jobs and says what does not, a sentence each. Empty: all is well.
///
/// # Errors
/// The database.
pub async fn doctor(pool: &PgPool) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    for check in CHECKS {
        findings.extend(sqlx::query_scalar::<_, String>(*check).fetch_all(pool).await?);
    }
    Ok(findings)
}
