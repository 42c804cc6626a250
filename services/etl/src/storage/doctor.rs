//! The service's own invariants, for `doctor`. SQL by hand: what it compares spans all tables.

use sea_orm::sqlx::{self, PgPool};

/// Each query yields one row a finding, as a sentence.
const CHECKS: &[&str] = &[
    "SELECT format('run %s names no stream', id) FROM jobs WHERE kind = 'etl.runs' AND params ->> 'lane' IS NULL LIMIT 20",
    "SELECT format('lane %s has %s runs at a time', params ->> 'lane', count(*)) FROM jobs
     WHERE kind = 'etl.runs' AND state IN ('pending', 'running') GROUP BY params ->> 'lane' HAVING count(*) > 1 LIMIT 20",
    "SELECT format('schedule %s has been due for %s s', id, extract(epoch FROM now() - next_at)::bigint)
     FROM schedules WHERE active AND next_at < now() - interval '10 minutes'
       -- Not where that time is waited for: what was begun before it may take hours.
       AND coalesce(waiting_since < next_at, true) LIMIT 20",
];

/// A sentence for each thing that does not hold.
pub async fn doctor(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    let mut findings = chassis::doctor::findings(pool, CHECKS).await?;
    findings.extend(crate::collections::doctor(pool).await?);
    Ok(findings)
}
