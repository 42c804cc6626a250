//! The files of runs, and the jobs that make them.

use chrono::NaiveDate;
use sea_orm::sqlx::{self, AssertSqlSafe, FromRow, PgConnection, PgExecutor, Row as _, postgres::PgRow};
use uuid::Uuid;

/// A file that was made, or is on its way.
#[derive(Clone, Debug)]
pub struct File {
    pub run_id: Uuid,
    /// 0 for a summary's.
    pub campaign_id: i64,
    pub job_id: Option<Uuid>,
    pub object_key: Option<String>,
    pub rows: Option<i64>,
    pub bytes: Option<i64>,
    pub sha256: Option<String>,
    /// Its job's state (`pending` before it has one), rows so far, all rows if that is known, and error.
    pub state: String,
    pub processed: i64,
    pub total: Option<i64>,
    pub error: Option<String>,
}

impl File {
    /// The name, without the folders.
    pub fn name(&self) -> Option<&str> {
        self.object_key.as_deref().and_then(|key| key.rsplit('/').next())
    }
}

impl FromRow<'_, PgRow> for File {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            run_id: row.try_get("run_id")?,
            campaign_id: row.try_get("campaign_id")?,
            job_id: row.try_get("job_id")?,
            object_key: row.try_get("object_key")?,
            rows: row.try_get("rows")?,
            bytes: row.try_get("bytes")?,
            sha256: row.try_get("sha256")?,
            state: row.try_get("state")?,
            processed: row.try_get("processed")?,
            total: row.try_get("total")?,
            error: row.try_get("error")?,
        })
    }
}

/// A file that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub object_key: String,
    pub rows: i64,
    pub bytes: i64,
    pub sha256: String,
    /// What the campaign's count of changes was in its snapshot.
    pub changes: i64,
}

const SELECT: &str = "
    select f.run_id, f.campaign_id, f.job_id, f.object_key, f.rows, f.bytes, f.sha256,
           coalesce(j.state, case when r.state in ('failed', 'cancelled') then 'failed' else 'pending' end) as state,
           coalesce(j.processed, 0) as processed, j.total, j.error, r.fecha
    from run_files f join runs r on r.id = f.run_id left join jobs j on j.id = f.job_id";

fn query(rest: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{SELECT} {rest}"))
}

/// The files of a run.
pub async fn of_run(executor: impl PgExecutor<'_>, run: Uuid) -> sqlx::Result<Vec<File>> {
    sqlx::query_as(query("where f.run_id = $1 order by f.campaign_id")).bind(run).fetch_all(executor).await
}

/// The files of a run after the one of this campaign, `size` of them.
pub async fn page(
    executor: impl PgExecutor<'_>,
    run: Uuid,
    after: i64,
    size: i64,
) -> sqlx::Result<Vec<File>> {
    sqlx::query_as(query("where f.run_id = $1 and f.campaign_id > $2 order by f.campaign_id limit $3"))
        .bind(run)
        .bind(after)
        .bind(size)
        .fetch_all(executor)
        .await
}

/// The file of a campaign in a run.
pub async fn get(executor: impl PgExecutor<'_>, run: Uuid, campaign: i64) -> sqlx::Result<Option<File>> {
    sqlx::query_as(query("where f.run_id = $1 and f.campaign_id = $2"))
        .bind(run)
        .bind(campaign)
        .fetch_optional(executor)
        .await
}

/// The file that a job makes.
pub async fn of_job(executor: impl PgExecutor<'_>, job: Uuid) -> sqlx::Result<Option<File>> {
    sqlx::query_as(query("where f.job_id = $1")).bind(job).fetch_optional(executor).await
}

/// The campaign's file in the run that was asked for last, and the campaign's day.
pub async fn latest(executor: impl PgExecutor<'_>, campaign: i64) -> sqlx::Result<Option<(File, NaiveDate)>> {
    let row = sqlx::query(query("where f.campaign_id = $1 order by r.created_at desc, r.id desc limit 1"))
        .bind(campaign)
        .fetch_optional(executor)
        .await?;
    row.map(|row| Ok((File::from_row(&row)?, row.try_get("fecha")?))).transpose()
}

/// How many rows the files of a run have reached.
pub async fn processed(executor: impl PgExecutor<'_>, run: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(j.processed), 0)::bigint from run_files f join jobs j on j.id = f.job_id
         where f.run_id = $1",
    )
    .bind(run)
    .fetch_one(executor)
    .await
}

/// The campaigns of a run whose files have no job yet.
pub async fn without_job(conn: &mut PgConnection, run: Uuid) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar(
        "select campaign_id from run_files where run_id = $1 and job_id is null order by campaign_id",
    )
    .bind(run)
    .fetch_all(conn)
    .await
}

/// Notes the jobs of files.
pub async fn give_jobs(
    conn: &mut PgConnection,
    run: Uuid,
    campaigns: &[i64],
    jobs: &[Uuid],
) -> sqlx::Result<()> {
    sqlx::query(
        "update run_files f set job_id = t.job_id from unnest($2::bigint[], $3::uuid[]) as t (campaign_id, job_id)
         where f.run_id = $1 and f.campaign_id = t.campaign_id",
    )
    .bind(run)
    .bind(campaigns)
    .bind(jobs)
    .execute(conn)
    .await
    .map(drop)
}

/// Notes what a job has made, in the transaction that ends it.
pub async fn record(conn: &mut PgConnection, job: Uuid, made: &Made) -> sqlx::Result<()> {
    sqlx::query(
        "update run_files set object_key = $2, rows = $3, bytes = $4, sha256 = $5, changes = $6 where job_id = $1",
    )
    .bind(job)
    .bind(&made.object_key)
    .bind(made.rows)
    .bind(made.bytes)
    .bind(&made.sha256)
    .bind(made.changes)
    .execute(conn)
    .await
    .map(drop)
}
