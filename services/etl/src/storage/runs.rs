//! Runs are rows of `jobs`; these are the questions that only this service has about them. SQL by hand: the table is of
//! another crate.

use chrono::{DateTime, Utc};
use jobs::Job;
use sea_orm::sqlx::{self, PgConnection, PgExecutor};
use uuid::Uuid;

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

/// When the last run of a lane ended that went well.
pub async fn last_completed(
    executor: impl PgExecutor<'_>,
    lane: &str,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let ended: Option<Option<DateTime<Utc>>> = sqlx::query_scalar(
        "select finished_at from jobs where kind = 'etl.runs' and params ->> 'lane' = $1 and state = 'completed'
         order by created_at desc, id desc limit 1",
    )
    .bind(lane)
    .fetch_optional(executor)
    .await?;
    Ok(ended.flatten())
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
        "select params ->> 'lane', id from jobs where kind = 'etl.runs' and state in ('pending', 'running') order by 1",
    )
    .fetch_all(executor)
    .await
}

/// Has a run of BigQuery's that was within a slice begin it again, under an id of a new query: what it had met of the slice
/// may be forgotten by now, and its results may have expired. Where Bsale's runs are stands in the sales database.
pub async fn begin_day_again(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update jobs set checkpoint = checkpoint || jsonb_build_object(
             'beginning', (checkpoint ->> 'beginning')::bigint + 1,
             'snapshot', null, 'page', null, 'location', null, 'rows', 0, 'keyless', false)
         where id = $1 and checkpoint ->> 'snapshot' is not null",
    )
    .bind(id)
    .execute(conn)
    .await
    .map(drop)
}

/// Whether a job that fetches this resource waits. One that has been begun may have asked already.
pub async fn refetch_waits(conn: &mut PgConnection, path: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from jobs where kind = 'etl.webhooks' and state = 'pending' and started_at is null
                        and params ->> 'resource' = $1)",
    )
    .bind(path)
    .fetch_one(conn)
    .await
}

/// Deletes runs and refetches that ended before, a batch at a time, oldest first. The last run of a lane stays, and so does a
/// backfill that ended within a day until a run that began later has read all of its days: they say what is half read.
pub async fn purge(executor: impl PgExecutor<'_>, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query(
        "delete from jobs where id = any (array(
             select j.id from jobs j
             where j.finished_at < $1 and (j.kind = 'etl.webhooks' or j.kind = 'etl.runs'
                 and exists (
                     select from jobs later
                     where later.kind = 'etl.runs' and later.params ->> 'lane' = j.params ->> 'lane'
                       and (later.created_at, later.id) > (j.created_at, j.id))
                 and not (
                     j.params ->> 'lane' like '%#backfill' and j.state <> 'completed'
                     and (j.checkpoint ->> 'snapshot' is not null
                          or coalesce((j.checkpoint ->> 'beginning')::bigint, 0) > 0)
                     and not exists (
                         select from jobs r
                         where r.kind = 'etl.runs'
                           and r.params ->> 'lane' in (j.params ->> 'lane', j.params ->> 'stream')
                           and r.state = 'completed' and r.started_at > j.finished_at
                           and (r.checkpoint ->> 'from')::timestamptz <= (j.checkpoint ->> 'from')::timestamptz
                           and (r.checkpoint ->> 'to')::timestamptz >= (j.checkpoint ->> 'to')::timestamptz)))
             order by j.finished_at limit 1000))",
    )
    .bind(before)
    .execute(executor)
    .await?;
    Ok(done.rows_affected())
}
