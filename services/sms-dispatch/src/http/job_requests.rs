//! What imports, validations and files of audiences have in common: each is a job, listed by page and cancelled, and some begin
//! with an uploaded file.

use chassis::{
    Problem,
    auth::Caller,
    http::{
        in_range,
        page::cut,
        upload::{self, Bucket},
    },
};
use jobs::Job;
use sea_orm::sqlx::PgTransaction;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use uuid::Uuid;

use super::Resources;
use crate::storage::audit;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Filas por página, de 1 a 100; 20 si falta.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// El `next_cursor` de la página anterior.
    pub(super) cursor: Option<Uuid>,
}

impl PageQuery {
    /// How many rows a page has at most.
    pub(super) fn limit(&self) -> Result<i64, Problem> {
        in_range("limit", self.limit.unwrap_or(20), 1, 100)
    }
}

/// Ends an upload under the id that it was given: commits what names the object, and takes the object away where nothing does, as
/// the upload was refused, or another one came first under its key. Gives the id that is answered.
pub(super) async fn settle(
    bucket: Bucket<'_>,
    object_key: &str,
    id: Uuid,
    accepted: Result<(Uuid, PgTransaction<'static>), Problem>,
) -> Result<Uuid, Problem> {
    if !matches!(&accepted, Ok((accepted, _)) if *accepted == id) {
        upload::discard(bucket, object_key).await;
    }
    let (accepted, transaction) = accepted?;
    // If this fails the object stays: the commit may have come through, with only its answer lost.
    transaction.commit().await?;
    Ok(accepted)
}

/// The job of what an id in a path names. Read before what it is about: where it has ended, what that came to was committed with
/// its end.
pub(super) async fn job(api: &Resources, id: &str) -> Result<Option<Job>, Problem> {
    match Uuid::parse_str(id) {
        Ok(id) => Ok(jobs::get(&mut *api.database.pool.acquire().await?, id).await?),
        Err(_) => Ok(None),
    }
}

/// The rows of a page, of which one more than its `limit` was asked for, each with its job; and the cursor of the next page.
pub(super) async fn with_jobs<T>(
    api: &Resources,
    mut rows: Vec<T>,
    limit: i64,
    id: impl Fn(&T) -> Uuid,
) -> Result<(Vec<(T, Option<Job>)>, Option<Uuid>), Problem> {
    let next_cursor = cut(&mut rows, limit, &id);
    let ids: Vec<Uuid> = rows.iter().map(&id).collect();
    let mut jobs = jobs::get_all(&mut *api.database.pool.acquire().await?, &ids).await?;
    let rows = rows.into_iter().map(|row| {
        let job = jobs.remove(&id(&row));
        (row, job)
    });
    Ok((rows.collect(), next_cursor))
}

/// Asks for a job's end, with a row in the audit. It stops at its next checkpoint.
///
/// # Errors
/// 409 with the detail `ended`, where it has none before it.
pub(super) async fn cancel(
    api: &Resources,
    caller: &Caller,
    id: Uuid,
    action: &str,
    ended: &str,
) -> Result<Job, Problem> {
    let mut transaction = api.database.pool.begin().await?;
    let job = jobs::request_cancel(&mut transaction, id).await?;
    let job = job.filter(|job| !job.state.is_final());
    let job = job.ok_or_else(|| Problem::conflict("already_finished", ended))?;
    audit::record(&mut transaction, caller.id(), action, Some(&id.to_string()), &Value::Null).await?;
    transaction.commit().await?;
    Ok(job)
}
