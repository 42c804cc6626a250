use std::time::Duration;

use sea_orm::sqlx::{self, PgConnection, Row as _, postgres::PgRow};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Job, Position, Progress};

/// The right to work on a job. Every function here that takes one writes only while the row runs under this
/// very claim: its epoch and its owner, which ends in the claim's token. Otherwise it returns
/// [`Error::LeaseLost`] and the caller must roll back and stop. A lease that lapsed but that nobody took over
/// still holds.
///
/// The epoch alone would not do: after a failover to a replica that lagged, the row has an epoch again that a
/// claim before the failover had, and two holders would have one epoch. The token stands in `owner` because
/// every version of this crate writes that column with every claim. A worker of a version that compares epochs
/// alone therefore shuts out a holder of this version by its claim, and is shut out by this version's claims as
/// it always was; only between two of its own kind does a repeated epoch still let both write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub job: Uuid,
    /// The claim's number. Higher than those of the claims before it, but for those that a failover lost.
    pub epoch: i64,
    /// New with every claim: no two claims have one, whatever becomes of the database.
    pub token: Uuid,
    /// Who holds it, and the token.
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
/// commit together or not at all. Extends the lease. `checkpoint` is a JSON object. Where `position` is above
/// the highest that the job has reached, it has all its attempts again; where it is not, as when an attempt
/// repeats what an earlier one did, they stay counted, whatever `checkpoint` says. Call it last before the
/// commit: it locks the job's row.
///
/// # Errors
/// [`Error::LeaseLost`]; the database.
pub async fn checkpoint(
    conn: &mut PgConnection,
    lease: &Lease,
    checkpoint: &Value,
    position: Position,
    progress: &Progress,
) -> Result<Standing, Error> {
    // The highest position is a key of the checkpoint, not a column: a column more would break every `SELECT *`
    // that the previous version's connections have prepared ("cached plan must not change result type") while that
    // version still serves. Its workers drop the key; the next checkpoint after theirs is then an advance, once.
    let row = sqlx::query(
        "UPDATE jobs SET
                attempts = CASE WHEN $5 > coalesce(checkpoint -> 'reached', '[]') THEN 0 ELSE attempts END,
                checkpoint = jsonb_set($4, '{reached}', greatest($5, checkpoint -> 'reached')),
                total = $6, processed = $7, successful = $8, failed = $9,
                lease_until = clock_timestamp() + make_interval(secs => $10),
                version = version + 1, updated_at = now()
         WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'running'
         RETURNING cancel_requested_at IS NOT NULL AS cancel_requested, version",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(&lease.owner)
    .bind(checkpoint)
    .bind(position.to_value())
    .bind(progress.total)
    .bind(progress.processed)
    .bind(progress.successful)
    .bind(progress.failed)
    .bind(lease.length.as_secs_f64())
    .fetch_optional(conn)
    .await?;
    Standing::read(row)
}

/// Says how far this attempt is, for people to see, and extends the lease. Where the work goes on and what it
/// has reached stay as they are, and so do its attempts: for work that starts over with every attempt.
///
/// # Errors
/// [`Error::LeaseLost`]; the database.
pub async fn progress(
    conn: &mut PgConnection,
    lease: &Lease,
    progress: &Progress,
) -> Result<Standing, Error> {
    let row = sqlx::query(
        "UPDATE jobs SET total = $4, processed = $5, successful = $6, failed = $7,
                lease_until = clock_timestamp() + make_interval(secs => $8),
                version = version + 1, updated_at = now()
         WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'running'
         RETURNING cancel_requested_at IS NOT NULL AS cancel_requested, version",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(&lease.owner)
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
        "UPDATE jobs SET lease_until = clock_timestamp() + make_interval(secs => $4)
         WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'running'
         RETURNING cancel_requested_at IS NOT NULL AS cancel_requested, version",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(&lease.owner)
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
        "UPDATE jobs SET state = 'completed', result = $4, error = NULL, owner = NULL, lease_until = NULL,
                finished_at = clock_timestamp(), version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(&lease.owner)
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
        "UPDATE jobs SET state = 'failed', error = $4, owner = NULL, lease_until = NULL,
                finished_at = clock_timestamp(), version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(&lease.owner)
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
         WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(&lease.owner)
    .fetch_optional(conn)
    .await?;
    held(row)
}

/// Gives the job back after a transient error: due again after `backoff`, or at once where its end was asked
/// for, when the sweeper nudges it. If this was its last attempt it fails instead; look at the returned row's state, and write the event of a
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
                error = $4, owner = NULL, lease_until = NULL, nudged_at = NULL, nudges = 0,
                next_run_at = clock_timestamp()
                    + CASE WHEN cancel_requested_at IS NULL THEN make_interval(secs => $5) ELSE interval '0' END,
                finished_at = CASE WHEN attempts >= max_attempts THEN clock_timestamp() END,
                version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(&lease.owner)
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
    // Its message comes back by itself ([`messaging::JobError::Release`]): that is the nudge. A cancel does not
    // rely on it.
    let row = sqlx::query(
        "UPDATE jobs SET state = 'pending', owner = NULL, lease_until = NULL, next_run_at = clock_timestamp(),
                nudged_at = CASE WHEN cancel_requested_at IS NULL THEN clock_timestamp() END, nudges = 1, attempts = greatest(attempts - 1, 0),
                version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(&lease.owner)
    .fetch_optional(conn)
    .await?;
    held(row)
}

/// Gives the job back because what it needs is not there yet: due again after `pause`, when the sweeper nudges it, or at
/// once where its end was asked for. The attempt does not count.
///
/// # Errors
/// [`Error::LeaseLost`]; the database.
pub async fn postpone(conn: &mut PgConnection, lease: &Lease, pause: Duration) -> Result<Job, Error> {
    let row = sqlx::query(
        "UPDATE jobs SET state = 'pending', owner = NULL, lease_until = NULL, nudged_at = NULL, nudges = 0,
                next_run_at = clock_timestamp()
                    + CASE WHEN cancel_requested_at IS NULL THEN make_interval(secs => $4) ELSE interval '0' END,
                attempts = greatest(attempts - 1, 0), version = version + 1, updated_at = clock_timestamp()
         WHERE id = $1 AND epoch = $2 AND owner = $3 AND state = 'running' RETURNING *",
    )
    .bind(lease.job)
    .bind(lease.epoch)
    .bind(&lease.owner)
    .bind(pause.as_secs_f64())
    .fetch_optional(conn)
    .await?;
    held(row)
}

/// PostgreSQL's text holds no NUL.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
