//! Runs: what somebody asked for, one day's files.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe, FromRow, PgConnection, PgExecutor, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::domain::params::{Kind, Params};

/// A run's row.
#[derive(Clone, Debug)]
pub struct Run {
    pub id: Uuid,
    pub fecha: NaiveDate,
    pub params: Params,
    pub state: String,
    pub files: i32,
    pub done: i32,
    pub failed: i32,
    pub rows: i64,
    pub bytes: i64,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
    pub cancel_requested_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub purged_at: Option<DateTime<Utc>>,
    pub version: i64,
}

impl Run {
    /// Whether nothing more will happen to it by itself.
    pub fn is_final(&self) -> bool {
        self.finished_at.is_some()
    }
}

impl FromRow<'_, PgRow> for Run {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let params = serde_json::from_value(row.try_get("params")?);
        Ok(Self {
            id: row.try_get("id")?,
            fecha: row.try_get("fecha")?,
            params: params.map_err(|error| sqlx::Error::Decode(error.into()))?,
            state: row.try_get("state")?,
            files: row.try_get("files")?,
            done: row.try_get("done")?,
            failed: row.try_get("failed")?,
            rows: row.try_get("rows")?,
            bytes: row.try_get("bytes")?,
            created_by: row.try_get("created_by")?,
            created_at: row.try_get("created_at")?,
            cancel_requested_at: row.try_get("cancel_requested_at")?,
            finished_at: row.try_get("finished_at")?,
            purged_at: row.try_get("purged_at")?,
            version: row.try_get("version")?,
        })
    }
}

fn json(params: &Params) -> sqlx::Result<serde_json::Value> {
    serde_json::to_value(params).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// Lets one at a time ask for this, until the caller's transaction ends.
pub async fn take_turn(conn: &mut PgConnection, fecha: NaiveDate, params: &Params) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended(current_schema() || $1, 0))")
        .bind(format!(" run {fecha} {}", json(params)?))
        .execute(conn)
        .await
        .map(drop)
}

/// The newest run of these parameters that has not ended.
pub async fn active(conn: &mut PgConnection, fecha: NaiveDate, params: &Params) -> sqlx::Result<Option<Run>> {
    sqlx::query_as(
        "select * from runs where fecha = $1 and params = $2 and state in ('pending', 'running')
         order by created_at desc limit 1",
    )
    .bind(fecha)
    .bind(json(params)?)
    .fetch_optional(conn)
    .await
}

/// The newest completed run of these parameters, if its files show the day as it is now: no campaign has come, and
/// neither one of them nor any row of theirs has changed since its file's snapshot.
pub async fn current(
    conn: &mut PgConnection,
    fecha: NaiveDate,
    params: &Params,
) -> sqlx::Result<Option<Run>> {
    let unchanged = match params.kind {
        Kind::Detalle => {
            "not exists (select from ta_sms_maestro m where m.fecha = r.fecha and not exists (
                 select from run_files f where f.run_id = r.id and f.campaign_id = m.id and f.changes = m.cambios))"
        }
        Kind::Resumen => {
            "exists (select from run_files f where f.run_id = r.id and f.changes = (
                 select sum(m.cambios + 1) from ta_sms_maestro m where m.fecha = r.fecha))"
        }
    };
    let query = format!(
        "select * from (select * from runs where fecha = $1 and params = $2 and state = 'completed'
             order by created_at desc limit 1) r
         where r.purged_at is null and {unchanged}"
    );
    sqlx::query_as(AssertSqlSafe(query)).bind(fecha).bind(json(params)?).fetch_optional(conn).await
}

/// Writes the row of a run whose job is there, and those of its files. None: the day has no campaign.
pub async fn create(
    conn: &mut PgConnection,
    id: Uuid,
    fecha: NaiveDate,
    params: &Params,
    user: &str,
) -> sqlx::Result<Option<Run>> {
    let campaigns = match params.kind {
        Kind::Detalle => "select id from ta_sms_maestro where fecha = $2",
        Kind::Resumen => "select 0 where exists (select from ta_sms_maestro where fecha = $2)",
    };
    let statement = format!(
        "with campaigns (id) as materialized ({campaigns}),
         run as (
             insert into runs (id, fecha, params, files, created_by)
             select $1, $2, $3, count(*), $4 from campaigns having count(*) > 0 returning *),
         planned as (
             insert into run_files (run_id, campaign_id) select run.id, campaigns.id from run, campaigns)
         select * from run"
    );
    sqlx::query_as(AssertSqlSafe(statement))
        .bind(id)
        .bind(fecha)
        .bind(json(params)?)
        .bind(user)
        .fetch_optional(conn)
        .await
}

/// One run.
pub async fn get(executor: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Run>> {
    sqlx::query_as("select * from runs where id = $1").bind(id).fetch_optional(executor).await
}

/// One run, which stays as it is until the caller's transaction ends.
pub async fn lock(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Run>> {
    sqlx::query_as("select * from runs where id = $1 for update").bind(id).fetch_optional(conn).await
}

/// Runs, newest first, before the one that `before` names, of a day or of all.
pub async fn list(
    executor: impl PgExecutor<'_>,
    fecha: Option<NaiveDate>,
    before: Option<(DateTime<Utc>, Uuid)>,
    size: i64,
) -> sqlx::Result<Vec<Run>> {
    sqlx::query_as(
        "select * from runs
         where ($1::date is null or fecha = $1) and ($2::timestamptz is null or (created_at, id) < ($2, $3))
         order by created_at desc, id desc limit $4",
    )
    .bind(fecha)
    .bind(before.map(|(at, _)| at))
    .bind(before.map(|(_, id)| id))
    .bind(size)
    .persistent(false)
    .fetch_all(executor)
    .await
}

/// Its files have their jobs.
pub async fn began(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update runs set state = 'running', version = version + 1 where id = $1 and state = 'pending'",
    )
    .bind(id)
    .execute(conn)
    .await
    .map(drop)
}

/// A file of the run has ended: done with these rows and bytes, or not. The row stays locked until the caller's
/// transaction ends, so that one of the run's files is its last.
pub async fn file_ended(conn: &mut PgConnection, id: Uuid, made: Option<(i64, i64)>) -> sqlx::Result<Run> {
    let (rows, bytes) = made.unwrap_or_default();
    sqlx::query_as(
        "update runs set done = done + $2, failed = failed + 1 - $2, rows = rows + $3, bytes = bytes + $4,
                version = version + 1
         where id = $1 returning *",
    )
    .bind(id)
    .bind(i32::from(made.is_some()))
    .bind(rows)
    .bind(bytes)
    .fetch_one(conn)
    .await
}

/// It could not begin: all of its files that are not done have failed.
pub async fn not_begun(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Run> {
    sqlx::query_as("update runs set failed = files - done, version = version + 1 where id = $1 returning *")
        .bind(id)
        .fetch_one(conn)
        .await
}

/// All of its files have ended.
pub async fn finish(conn: &mut PgConnection, id: Uuid, state: &str) -> sqlx::Result<Run> {
    sqlx::query_as(
        "update runs set state = $2, finished_at = clock_timestamp(), version = version + 1
         where id = $1 returning *",
    )
    .bind(id)
    .bind(state)
    .fetch_one(conn)
    .await
}

/// Somebody asked for its end.
pub async fn request_cancel(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update runs set cancel_requested_at = coalesce(cancel_requested_at, now()), version = version + 1
         where id = $1",
    )
    .bind(id)
    .execute(conn)
    .await
    .map(drop)
}

/// Its failed files begin anew.
pub async fn reopened(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Run> {
    sqlx::query_as(
        "update runs set state = 'running', failed = 0, cancel_requested_at = null, finished_at = null,
                version = version + 1
         where id = $1 returning *",
    )
    .bind(id)
    .fetch_one(conn)
    .await
}
