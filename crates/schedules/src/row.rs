use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, FromRow, PgConnection, PgExecutor, Row as _, postgres::PgRow};
use serde_json::Value;
use uuid::Uuid;

use crate::Missed;

/// A schedule's row.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub id: Uuid,
    /// Five fields.
    pub cron: String,
    /// IANA's name of the zone that `cron` is in.
    pub zone: String,
    pub missed: Missed,
    /// What to begin, as its service wrote it.
    pub params: Value,
    pub active: bool,
    pub next_at: DateTime<Utc>,
    pub last_at: Option<DateTime<Utc>>,
    /// What it began last.
    pub last_run: Option<Uuid>,
    /// Why its last turn began nothing, for a person.
    pub last_error: Option<String>,
    pub created_by: String,
    pub version: i64,
}

impl FromRow<'_, PgRow> for Schedule {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let missed = serde_json::from_value(row.try_get::<String, _>("missed")?.into());
        Ok(Self {
            id: row.try_get("id")?,
            cron: row.try_get("cron")?,
            zone: row.try_get("zone")?,
            missed: missed.map_err(|error| sqlx::Error::Decode(error.into()))?,
            params: row.try_get("params")?,
            active: row.try_get("active")?,
            next_at: row.try_get("next_at")?,
            last_at: row.try_get("last_at")?,
            last_run: row.try_get("last_run")?,
            last_error: row.try_get("last_error")?,
            created_by: row.try_get("created_by")?,
            version: row.try_get("version")?,
        })
    }
}

/// All of them, oldest first.
///
/// # Errors
/// The database.
pub async fn list(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<Schedule>> {
    sqlx::query_as(
        "select id, cron, zone, missed, params, active, next_at, last_at, last_run, last_error, created_by, version
         from schedules order by created_at, id",
    )
    .fetch_all(executor)
    .await
}

/// One of them.
///
/// # Errors
/// The database.
pub async fn get(executor: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Schedule>> {
    sqlx::query_as(
        "select id, cron, zone, missed, params, active, next_at, last_at, last_run, last_error, created_by, version
         from schedules where id = $1",
    )
    .bind(id)
    .fetch_optional(executor)
    .await
}

/// Writes a new one, or the settings of one that is there. `next_at` is the caller's: computed from the present
/// moment, so that what is edited or switched on again does not fire for the past.
///
/// # Errors
/// The database.
pub async fn put(executor: impl PgExecutor<'_>, schedule: &Schedule) -> sqlx::Result<Schedule> {
    sqlx::query_as(
        "insert into schedules as s (id, cron, zone, missed, params, active, next_at, created_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (id) do update
         set cron = excluded.cron, zone = excluded.zone, missed = excluded.missed, params = excluded.params,
             active = excluded.active, next_at = excluded.next_at, last_error = null, version = s.version + 1
         returning id, cron, zone, missed, params, active, next_at, last_at, last_run, last_error, created_by,
             version",
    )
    .bind(schedule.id)
    .bind(&schedule.cron)
    .bind(&schedule.zone)
    .bind(schedule.missed.name())
    .bind(&schedule.params)
    .bind(schedule.active)
    .bind(schedule.next_at)
    .bind(&schedule.created_by)
    .fetch_one(executor)
    .await
}

/// Whether there was one.
///
/// # Errors
/// The database.
pub async fn delete(executor: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from schedules where id = $1").bind(id).execute(executor).await?;
    Ok(done.rows_affected() > 0)
}

/// One that is due, that nobody else looks at and that is not among `waiting`; locked until the caller's transaction
/// ends.
pub(crate) async fn due(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    waiting: &[Uuid],
) -> sqlx::Result<Option<Schedule>> {
    sqlx::query_as(
        "select id, cron, zone, missed, params, active, next_at, last_at, last_run, last_error, created_by, version
         from schedules where active and next_at <= $1 and not id = any ($2)
         order by next_at limit 1 for update skip locked",
    )
    .bind(now)
    .bind(waiting)
    .fetch_optional(conn)
    .await
}

/// Notes what came of its turn, and when the next is; without a next one it is no longer active.
pub(crate) async fn turned(
    conn: &mut PgConnection,
    id: Uuid,
    last_at: Option<DateTime<Utc>>,
    next_at: Option<DateTime<Utc>>,
    run: Option<Uuid>,
    error: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query(
        "update schedules set last_at = coalesce($2, last_at), next_at = coalesce($3, next_at),
                active = active and $3 is not null, last_run = coalesce($4, last_run), last_error = $5
         where id = $1",
    )
    .bind(id)
    .bind(last_at)
    .bind(next_at)
    .bind(run)
    .bind(error)
    .execute(conn)
    .await
    .map(drop)
}
