//! `job_keys`: keys of requests that were answered with a job that was there already. A key that created its job stands in
//! the job's own row.

use sea_orm::sqlx::{self, PgConnection};
use uuid::Uuid;

use crate::{Error, Job};

/// The job that a user's key was first answered with, whether it created it or joined it. Whoever may join holds a lock of the
/// key's from here to the end of the transaction, or two requests could answer it differently.
///
/// # Errors
/// [`Error::KeyReused`] where the key came with another request; the database.
pub async fn keyed(
    conn: &mut PgConnection,
    user: &str,
    key: &str,
    request_hash: Option<&str>,
) -> Result<Option<Job>, Error> {
    let found: Option<(Uuid, Option<String>)> = sqlx::query_as(
        "SELECT id, request_hash FROM jobs WHERE coalesce(created_by, '') = $1 AND idempotency_key = $2
         UNION ALL SELECT job_id, request_hash FROM job_keys WHERE created_by = $1 AND idempotency_key = $2",
    )
    .bind(user)
    .bind(key)
    .fetch_optional(&mut *conn)
    .await?;
    match found {
        None => Ok(None),
        Some((_, hash)) if hash.as_deref() != request_hash => Err(Error::KeyReused(key.to_owned())),
        Some((id, _)) => crate::get(conn, id).await,
    }
}

/// Writes down that a user's key, which [`keyed`] does not know, is answered with this job from now on.
///
/// # Errors
/// The database.
pub async fn join(
    conn: &mut PgConnection,
    user: &str,
    key: &str,
    request_hash: Option<&str>,
    job: Uuid,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO job_keys (created_by, idempotency_key, request_hash, job_id) VALUES ($1, $2, $3, $4)",
    )
    .bind(user)
    .bind(key)
    .bind(request_hash)
    .bind(job)
    .execute(conn)
    .await?;
    Ok(())
}
