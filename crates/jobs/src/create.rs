use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, Row as _};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Job};

/// A job to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob<'a> {
    /// Its id.
    pub id: Uuid,
    /// What kind of work: a [`crate::JobKind`]'s name.
    pub kind: &'a str,
    /// What to do, for its worker.
    pub params: Value,
    /// Who creates it: a token's subject.
    pub user: Option<String>,
    /// The client's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// A hash of what the request asks for: a key that comes back with another one is refused.
    pub request_hash: Option<String>,
    /// Claims without progress before the job fails.
    pub max_attempts: i32,
}

impl<'a> NewJob<'a> {
    /// A new job about what a row of its service's says: it has no parameters, and no key by which somebody would ask
    /// for it again.
    pub fn plain(kind: &'a str, user: &str, max_attempts: i32) -> Self {
        Self {
            id: Uuid::now_v7(),
            kind,
            params: Value::Null,
            user: Some(user.to_owned()),
            idempotency_key: None,
            request_hash: None,
            max_attempts,
        }
    }
}

/// What [`create`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Creation {
    /// The job is new.
    Created(Job),
    /// The user's key has this job already: answer with it.
    Existing(Job),
}

/// Writes a job's row and no message, in the caller's transaction: for who runs the job itself. [`crate::JobKind::create`]
/// is for jobs of workers. Two calls at once with one user and key: the second
/// waits for the first's transaction and gets its job.
///
/// # Errors
/// [`Error::KeyReused`]; the database (a job with this id exists).
pub async fn create(conn: &mut PgConnection, job: NewJob<'_>) -> Result<Creation, Error> {
    // The creator sends the first nudge itself, hence `nudged_at`.
    let row = sqlx::query(
        "INSERT INTO jobs (id, kind, params, created_by, idempotency_key, request_hash, max_attempts, traceparent,
                 nudged_at, nudges)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now(), 1)
         ON CONFLICT (coalesce(created_by, ''), idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
         RETURNING *",
    )
    .bind(job.id)
    .bind(job.kind)
    .bind(&job.params)
    .bind(&job.user)
    .bind(&job.idempotency_key)
    .bind(&job.request_hash)
    .bind(job.max_attempts)
    .bind(messaging::trace::traceparent())
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(row) = row {
        return Ok(Creation::Created(Job::read(&row)?));
    }
    let row = sqlx::query(
        "SELECT * FROM jobs WHERE coalesce(created_by, '') = coalesce($1, '') AND idempotency_key = $2",
    )
    .bind(&job.user)
    .bind(&job.idempotency_key)
    .fetch_one(conn)
    .await?;
    let same: Option<String> = row.try_get("request_hash")?;
    if same != job.request_hash {
        return Err(Error::KeyReused(job.idempotency_key.unwrap_or_default()));
    }
    Ok(Creation::Existing(Job::read(&row)?))
}

/// The rows of [`crate::JobKind::create_all`].
pub(crate) async fn create_all(
    conn: &mut PgConnection,
    ids: &[Uuid],
    kind: &str,
    user: Option<&str>,
    max_attempts: i32,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO jobs (id, kind, params, created_by, max_attempts, traceparent, nudged_at, nudges)
         SELECT id, $2, 'null', $3, $4, $5, now(), 1 FROM unnest($1::uuid[]) AS id",
    )
    .bind(ids)
    .bind(kind)
    .bind(user)
    .bind(max_attempts)
    .bind(messaging::trace::traceparent())
    .execute(conn)
    .await?;
    Ok(())
}

const CANCEL: &str = "UPDATE jobs SET cancel_requested_at = now(), next_run_at = least(next_run_at, now()),
        nudged_at = NULL, nudges = 0, version = version + 1, updated_at = now()
    WHERE state IN ('pending', 'running') AND cancel_requested_at IS NULL";

const REOPEN: &str = "UPDATE jobs SET state = 'pending', attempts = 0, error = NULL, finished_at = NULL,
        cancel_requested_at = NULL, next_run_at = now(), nudged_at = NULL, nudges = 0,
        version = version + 1, updated_at = now()
    WHERE state IN ('failed', 'cancelled')";

/// Asks for a job's end. A worker that holds it is told at its next checkpoint or heartbeat; a job that
/// waits, or whose worker died, is due at once and nudged by the next sweep, whatever nudges went out before,
/// so that the next worker can end it (with the event that says so). A job that has ended stays as it is.
/// Returns the row as it is now, or none where there is none.
///
/// # Errors
/// The database.
pub async fn request_cancel(conn: &mut PgConnection, id: Uuid) -> Result<Option<Job>, Error> {
    let statement = format!("{CANCEL} AND id = $1 RETURNING *");
    let row = sqlx::query(AssertSqlSafe(statement)).bind(id).fetch_optional(&mut *conn).await?;
    match row {
        Some(row) => Ok(Some(Job::read(&row)?)),
        None => crate::get(conn, id).await,
    }
}

/// Lets a failed or cancelled job start again, from its checkpoint, with all its attempts: what an
/// operator does once the cause is mended. The sweeper nudges it. Returns none where there is no such job
/// in one of these states.
///
/// # Errors
/// The database.
pub async fn reopen(conn: &mut PgConnection, id: Uuid) -> Result<Option<Job>, Error> {
    let statement = format!("{REOPEN} AND id = $1 RETURNING *");
    let row = sqlx::query(AssertSqlSafe(statement)).bind(id).fetch_optional(conn).await?;
    Ok(row.as_ref().map(Job::read).transpose()?)
}

/// Has a job that [`reopen`] has let start again do so from its beginning, as if it had no checkpoint.
///
/// # Errors
/// The database.
pub async fn start_over(conn: &mut PgConnection, id: Uuid) -> Result<(), Error> {
    let statement =
        "UPDATE jobs SET checkpoint = NULL, total = NULL, processed = 0, successful = 0, failed = 0
        WHERE id = $1 AND state = 'pending'";
    sqlx::query(statement).bind(id).execute(conn).await?;
    Ok(())
}

/// Locks jobs until the caller's transaction ends, in one order for all who lock several. A row that depends on a
/// job is locked after it: whoever ends a job does so.
///
/// # Errors
/// The database.
pub async fn lock(conn: &mut PgConnection, ids: &[Uuid]) -> Result<(), Error> {
    sqlx::query("SELECT FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE").bind(ids).execute(conn).await?;
    Ok(())
}

/// [`request_cancel`] of many, which the caller has locked.
///
/// # Errors
/// The database.
pub async fn request_cancel_all(conn: &mut PgConnection, ids: &[Uuid]) -> Result<(), Error> {
    sqlx::query(AssertSqlSafe(format!("{CANCEL} AND id = ANY($1)"))).bind(ids).execute(conn).await?;
    Ok(())
}

/// [`reopen`] of many, which the caller has locked.
///
/// # Errors
/// The database.
pub async fn reopen_all(conn: &mut PgConnection, ids: &[Uuid]) -> Result<(), Error> {
    sqlx::query(AssertSqlSafe(format!("{REOPEN} AND id = ANY($1)"))).bind(ids).execute(conn).await?;
    Ok(())
}
