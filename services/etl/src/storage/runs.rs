//! Runs are rows of `jobs`; these are the questions that only this service has about them.

use jobs::Job;
use sea_orm::sqlx::{self, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::jobs::run_sync::KIND;

async fn jobs_of(conn: &mut PgConnection, ids: Vec<Uuid>) -> Result<Vec<Job>, jobs::Error> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(jobs::get(&mut *conn, id).await?);
    }
    Ok(found)
}

/// The run that a lane has now.
pub async fn active(conn: &mut PgConnection, lane: &str) -> Result<Option<Job>, jobs::Error> {
    let id: Option<Uuid> = sqlx::query_scalar(
        "select id from jobs
         where kind = 'etl.runs' and state in ('pending', 'running') and params ->> 'lane' = $1",
    )
    .bind(lane)
    .fetch_optional(&mut *conn)
    .await?;
    Ok(jobs_of(conn, id.into_iter().collect()).await?.pop())
}

/// The last run of a lane, whatever became of it.
pub async fn latest(conn: &mut PgConnection, lane: &str) -> Result<Option<Job>, jobs::Error> {
    let id: Option<Uuid> = sqlx::query_scalar(
        "select id from jobs where kind = 'etl.runs' and params ->> 'lane' = $1
         order by created_at desc, id desc limit 1",
    )
    .bind(lane)
    .fetch_optional(&mut *conn)
    .await?;
    Ok(jobs_of(conn, id.into_iter().collect()).await?.pop())
}

/// The runs that were asked for together.
pub async fn of_group(conn: &mut PgConnection, group: Uuid) -> Result<Vec<Job>, jobs::Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select id from jobs where kind = 'etl.runs' and params ->> 'group' = $1 order by created_at, id",
    )
    .bind(group.to_string())
    .fetch_all(&mut *conn)
    .await?;
    jobs_of(conn, ids).await
}

/// Lanes that have a run now, and the run.
pub async fn all_active(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<(String, Uuid)>> {
    sqlx::query_as(
        "select params ->> 'lane', id from jobs where kind = $1 and state in ('pending', 'running') order by 1",
    )
    .bind(KIND)
    .fetch_all(executor)
    .await
}

/// Deletes runs and refetches that ended before, a batch at a time.
pub async fn purge(
    executor: impl PgExecutor<'_>,
    before: chrono::DateTime<chrono::Utc>,
) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from jobs where id = any (array(
             select id from jobs where finished_at < $1 and kind in ('etl.runs', 'etl.webhooks') limit 1000))",
    )
    .bind(before)
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}
