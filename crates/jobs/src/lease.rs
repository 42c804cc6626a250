use std::time::Duration;

use sea_orm::sqlx::{self, PgConnection, Row as _, postgres::PgRow};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Job, Progress};

/// The right to work on a job. Every function here that takes one writes only while its epoch is the
/// row's and the job runs; otherwise it returns [`Error::LeaseLost`] and the caller must roll back and
/// stop. A lease that lapsed but that nobody took over still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: Uuid,
    /// The claim's number.
    pub epoch: i64,
    /// Who holds it.
    pub owner: String,
    /// How long each extension lasts.
    pub length: Duration,
}

/// What a holder learns when it extends its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Somebody asked for the job's end.
    pub cancel_requested: bool,
    /// The row's version now.
    pub version: i64,
}

impl Standing {
    fn read(row: Option<PgRow>) -> Result<Self, Error> {
        let row = row.ok_or(Error::LeaseLost)?;
        Ok(Self { cancel_requested: row.try_get("cancel_requested")?, version: row.try_get("version")? })
    }
}

/// Writes where the work goes on and how far it has come, in the transaction of the work's own rows: they
/// commit together or not at all. Extends the lease. A checkpoint that moved gives the job all its
/// attempts again. Call it last before the commit: it locks the job's row.
///
/// # Errors
/// [`Error::LeaseLost`]; the database.
pub async fn checkpoint(
    conn: &mut PgConnection,
    lease: &Lease,
    checkpoint: &Value,
    progress: &Progress,
) -> Result<Standing, Error> {
    let row = sqlx::query(
        "UPDATE jobs SET attempts = CASE WHEN checkpoint IS DISTINCT FROM $3 THEN 0 ELSE attempts END,
                checkpoint = $3, total = $4, processed = $5, successful = $6, failed = $7,
                lease_until = clock_timestamp() + make_interval(secs => $8),
                version = version + 1, updated_at = now()
         WHERE id = $1 AND epoch = $2 AND state = 'running'
         RETURNING cancel_requested_at IS NOT NULL AS cancel_requested, version",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(checkpoint)
    .bind(progress.total)
    .bind(progress.processed)
    .bind(progress.successful)
    .bind(progress.failed)
    .bind(lease.length.as_secs_f64())
    .fetch_optional(conn)
    .await?;
    Standing::read(row)
}

/// Extends the lease.
///
/// # Errors
/// [`Error::LeaseLost`]; the database.
pub async fn heartbeat(conn: &mut PgConnection, lease: &Lease) -> Result<Standing, Error> {
    let row = sqlx::query(
        "UPDATE jobs SET lease_until = clock_timestamp() + make_interval(secs => $3)
         WHERE id = $1 AND epoch = $2 AND state = 'running'
         RETURNING cancel_requested_at IS NOT NULL AS cancel_requested, version",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(lease.length.as_secs_f64())
    .fetch_optional(conn)
    .await?;
    Standing::read(row)
}

fn held(row: Option<PgRow>) -> Result<Job, Error> {
    Ok(Job::read(&row.ok_or(Error::LeaseLost)?)?)
}

/// Ends the job well, in the transaction of its last rows and its event. Returns the row, whose version
/// the event carries.
///
/// # Errors
/// [`Error::LeaseLost`]; the database.
pub async fn complete(conn: &mut PgConnection, lease: &Lease, result: &Value) -> Result<Job, Error> {
    let row = sqlx::query(
        "UPDATE jobs SET state = 'completed', result = $3, error = NULL, owner = NULL, lease_until = NULL,
                finished_at = clock_timestamp(), version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(result)
    .fetch_optional(conn)
    .await?;
    held(row)
}

/// Ends the job with an error that no attempt will mend, in the transaction of its event.
///
/// # Errors
/// [`Error::LeaseLost`]; the database.
pub async fn fail(conn: &mut PgConnection, lease: &Lease, error: &str) -> Result<Job, Error> {
    let row = sqlx::query(
        "UPDATE jobs SET state = 'failed', error = $3, owner = NULL, lease_until = NULL,
                finished_at = clock_timestamp(), version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(clean(error))
    .fetch_optional(conn)
    .await?;
    held(row)
}

/// Ends the job because somebody asked for it, in the transaction of its event.
///
/// # Errors
/// [`Error::LeaseLost`]; the database (nobody asked).
pub async fn cancelled(conn: &mut PgConnection, lease: &Lease) -> Result<Job, Error> {
    let row = sqlx::query(
        "UPDATE jobs SET state = 'cancelled', owner = NULL, lease_until = NULL,
                finished_at = clock_timestamp(), version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .fetch_optional(conn)
    .await?;
    held(row)
}

/// Gives the job back after a transient error: due again after `backoff`, when the sweeper nudges it. If
/// this was its last attempt it fails instead; look at the returned row's state, and write the event of a
/// failure in the same transaction.
///
/// # Errors
/// [`Error::LeaseLost`]; the database.
pub async fn defer(
    conn: &mut PgConnection,
    lease: &Lease,
    error: &str,
    backoff: Duration,
) -> Result<Job, Error> {
    let row = sqlx::query(
        "UPDATE jobs SET state = CASE WHEN attempts >= max_attempts THEN 'failed' ELSE 'pending' END,
                error = $3, owner = NULL, lease_until = NULL, nudged_at = NULL, nudges = 0,
                next_run_at = clock_timestamp() + make_interval(secs => $4),
                finished_at = CASE WHEN attempts >= max_attempts THEN clock_timestamp() END,
                version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(clean(error))
    .bind(backoff.as_secs_f64())
    .fetch_optional(conn)
    .await?;
    held(row)
}

/// Gives the job back because the process drains: due at once, and the attempt does not count.
///
/// # Errors
/// [`Error::LeaseLost`]; the database.
pub async fn release(conn: &mut PgConnection, lease: &Lease) -> Result<Job, Error> {
    // Its message comes back by itself ([`messaging::JobError::Release`]): that is the nudge.
    let row = sqlx::query(
        "UPDATE jobs SET state = 'pending', owner = NULL, lease_until = NULL, next_run_at = clock_timestamp(),
                nudged_at = clock_timestamp(), nudges = 1, attempts = greatest(attempts - 1, 0),
                version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .fetch_optional(conn)
    .await?;
    held(row)
}

/// PostgreSQL's text holds no NUL.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
