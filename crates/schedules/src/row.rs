//! `schedules`: what is scheduled, and which of it is due.

use chassis::db::{Orm, sql};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait as _,
    ActiveValue::{NotSet, Set},
    ExprTrait as _, IntoActiveModel as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
    sea_query::{LockBehavior, LockType, OnConflict},
    sqlx::{self, PgConnection},
};

use crate::Missed;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "schedules")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Five fields.
    pub cron: String,
    /// IANA's name of the zone that `cron` is in.
    pub zone: String,
    pub missed: Missed,
    #[sea_orm(column_type = "JsonBinary")]
    /// What to begin, as its service wrote it.
    pub params: Json,
    pub active: bool,
    pub next_at: DateTime<Utc>,
    pub last_at: Option<DateTime<Utc>>,
    /// What it began last.
    pub last_run: Option<Uuid>,
    /// Why its last turn began nothing, for a person.
    pub last_error: Option<String>,
    /// Since when the time in `next_at` is waited for, because what was begun before it has not ended. None: it is not.
    pub waiting_since: Option<DateTime<Utc>>,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
    pub version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A schedule's row.
pub type Schedule = Model;

/// All of them.
pub async fn list(connection: &impl ConnectionTrait) -> Result<Vec<Schedule>, DbErr> {
    Entity::find().order_by_asc(Column::CreatedAt).order_by_asc(Column::Id).all(connection).await
}

/// One of them.
pub async fn get(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Schedule>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

/// Writes a new one, or the settings of one that is there. When it was made is the database's to say.
pub async fn put(connection: &impl ConnectionTrait, schedule: Schedule) -> Result<Schedule, DbErr> {
    let schedule = ActiveModel { created_at: NotSet, ..schedule.into_active_model().reset_all() };
    let replace = OnConflict::column(Column::Id)
        .update_columns([
            Column::Cron,
            Column::Zone,
            Column::Missed,
            Column::Params,
            Column::Active,
            Column::NextAt,
            Column::LastError,
            Column::WaitingSince,
        ])
        .value(Column::Version, Expr::col((Entity, Column::Version)).add(1))
        .to_owned();
    Entity::insert(schedule).on_conflict(replace).exec_with_returning(connection).await
}

/// Writes other settings to the schedule that has this one's id. None: there is no such schedule, any more.
pub(crate) async fn replace(
    connection: &impl ConnectionTrait,
    schedule: Schedule,
) -> Result<Option<Schedule>, DbErr> {
    let settings = ActiveModel {
        cron: Set(schedule.cron),
        zone: Set(schedule.zone),
        missed: Set(schedule.missed),
        params: Set(schedule.params),
        active: Set(schedule.active),
        next_at: Set(schedule.next_at),
        last_error: Set(None),
        waiting_since: Set(None),
        ..Default::default()
    };
    let replaced = Entity::update_many()
        .set(settings)
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .filter(Column::Id.eq(schedule.id));
    Ok(replaced.exec_with_returning(connection).await?.pop())
}

/// One of them as it is once no turn of it is under way; locked until the caller's transaction ends.
pub(crate) async fn lock(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Schedule>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(connection).await
}

/// The database's time at this moment, however long the caller's transaction has waited.
pub(crate) async fn moment(connection: &impl ConnectionTrait) -> Result<DateTime<Utc>, DbErr> {
    let row = connection.query_one_raw(sql("select clock_timestamp() as moment", [])).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("the database's time".to_owned()))?.try_get("", "moment")
}

/// The database's time, by which all processes go: their hosts' clocks differ.
pub(crate) async fn now(conn: &mut PgConnection) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar("select now()").fetch_one(conn).await
}

/// Whether there was one.
pub async fn delete(connection: &impl ConnectionTrait, id: Uuid) -> Result<bool, DbErr> {
    Ok(Entity::delete_by_id(id).exec(connection).await?.rows_affected > 0)
}

/// One that is due, that nobody else looks at and that is not among `waiting`; locked until the caller's transaction
/// ends.
pub(crate) async fn due(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    waiting: &[Uuid],
) -> Result<Option<Schedule>, DbErr> {
    Entity::find()
        .filter(Column::Active.eq(true))
        .filter(Column::NextAt.lte(now))
        .filter(Column::Id.is_not_in(waiting.iter().copied()))
        .order_by_asc(Column::NextAt)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .one(&Orm::on(conn))
        .await
}

/// What came of a schedule's turn.
#[derive(Default)]
pub(crate) struct Turn<'a> {
    /// The last time that was acted on; none: `last_at` stays what it is.
    pub last_at: Option<DateTime<Utc>>,
    /// The next time; none: there is none, and the schedule is no longer active.
    pub next_at: Option<DateTime<Utc>>,
    /// What was begun; none: `last_run` stays what it is.
    pub run: Option<Uuid>,
    pub error: Option<&'a str>,
    pub waiting_since: Option<DateTime<Utc>>,
}

/// Notes what came of its turn.
pub(crate) async fn turned(conn: &mut PgConnection, id: Uuid, turn: Turn<'_>) -> Result<(), DbErr> {
    let schedule = ActiveModel {
        last_at: turn.last_at.map_or(NotSet, |at| Set(Some(at))),
        next_at: turn.next_at.map_or(NotSet, Set),
        active: if turn.next_at.is_some() { NotSet } else { Set(false) },
        last_run: turn.run.map_or(NotSet, |run| Set(Some(run))),
        last_error: Set(turn.error.map(str::to_owned)),
        waiting_since: Set(turn.waiting_since),
        ..Default::default()
    };
    let turned = Entity::update_many().set(schedule).filter(Column::Id.eq(id));
    turned.exec(&Orm::on(conn)).await.map(drop)
}
