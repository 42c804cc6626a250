//! `runs`: what somebody asked for, one day's files. SQL by hand where one is planned from the day's campaigns or
//! compared with them.

use chassis::db::{NoRelation as Relation, Orm, columns, newest_first, sql};
use chrono::{DateTime, NaiveDate, Utc};
use jobs::State;
use sea_orm::{
    ActiveValue::Set, Condition, ExprTrait as _, FromQueryResult as _, QueryOrder as _, QuerySelect as _,
    UpdateMany, entity::prelude::*, sqlx::PgConnection,
};

use crate::domain::params::{Kind, Params};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub struct Model {
    /// That of the job that begins it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub fecha: NaiveDate,
    #[sea_orm(column_type = "JsonBinary")]
    pub params: Params,
    pub state: State,
    pub files: i32,
    pub done: i32,
    pub failed: i32,
    /// Of the files that are done, as `bytes`.
    pub rows: i64,
    pub bytes: i64,
    pub created_by: String,
    pub created_at: DateTime<Utc>,
    pub cancel_requested_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// When its files were deleted for their age.
    pub purged_at: Option<DateTime<Utc>>,
    pub version: i64,
    /// What it waits for before it begins, for a person.
    pub waits_for: Option<String>,
    /// What was missing of its day when it began without, for a person.
    pub begun_without: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A run's row.
pub type Run = Model;

impl Model {
    /// Whether nothing more will happen to it by itself.
    pub fn is_final(&self) -> bool {
        self.finished_at.is_some()
    }
}

/// The newest run of these parameters that has not ended, and whose end nobody has asked for.
pub async fn active(
    conn: &mut PgConnection,
    fecha: NaiveDate,
    params: &Params,
) -> Result<Option<Run>, DbErr> {
    Entity::find()
        .filter(Column::Fecha.eq(fecha))
        .filter(Column::Params.eq(params.clone()))
        .filter(Column::State.is_in([State::Pending, State::Running]))
        .filter(Column::CancelRequestedAt.is_null())
        .order_by_desc(Column::CreatedAt)
        .one(&Orm::on(conn))
        .await
}

/// The newest completed run of these parameters, if its files show the day as it is now: no campaign has come, and
/// neither one of them nor any row of theirs has changed since its file's snapshot.
pub async fn current(
    conn: &mut PgConnection,
    fecha: NaiveDate,
    params: &Params,
) -> Result<Option<Run>, DbErr> {
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
        "select {columns} from (select * from runs where fecha = $1 and params = $2 and state = 'completed'
             order by created_at desc limit 1) r
         where r.purged_at is null and {unchanged}",
        columns = columns::<Entity>("r")
    );
    Run::find_by_statement(sql(query, [fecha.into(), params.clone().into()])).one(&Orm::on(conn)).await
}

/// Writes the row of a run whose job is there, and those of its files. None: the day has no campaign.
pub async fn create(
    conn: &mut PgConnection,
    id: Uuid,
    fecha: NaiveDate,
    params: &Params,
    user: &str,
) -> Result<Option<Run>, DbErr> {
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
         select {columns} from run",
        columns = columns::<Entity>("run")
    );
    let values = [id.into(), fecha.into(), params.clone().into(), user.into()];
    Run::find_by_statement(sql(statement, values)).one(&Orm::on(conn)).await
}

/// One run.
pub async fn get(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Run>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

/// One run, which stays as it is until the caller's transaction ends.
pub async fn lock(conn: &mut PgConnection, id: Uuid) -> Result<Option<Run>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(&Orm::on(conn)).await
}

/// Runs, newest first, before the one that `before` names, of a day or of all.
pub async fn list(
    connection: &impl ConnectionTrait,
    fecha: Option<NaiveDate>,
    before: Option<(DateTime<Utc>, Uuid)>,
    size: u64,
) -> Result<Vec<Run>, DbErr> {
    let mut query = newest_first(Entity::find(), (Column::CreatedAt, Column::Id), before);
    if let Some(fecha) = fecha {
        query = query.filter(Column::Fecha.eq(fecha));
    }
    query.limit(size).all(connection).await
}

/// A change of one run, with its version.
pub(super) fn change(id: Uuid) -> UpdateMany<Entity> {
    Entity::update_many()
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .filter(Column::Id.eq(id))
}

async fn changed(conn: &mut PgConnection, id: Uuid, change: UpdateMany<Entity>) -> Result<Run, DbErr> {
    let run = change.exec_with_returning(&Orm::on(conn)).await?.pop();
    run.ok_or_else(|| DbErr::RecordNotFound(format!("run {id}")))
}

/// It waits for `what` before it begins. Changes nothing where that is known, or where it has begun.
pub async fn waits(conn: &mut PgConnection, id: Uuid, what: &str) -> Result<(), DbErr> {
    let waiting = ActiveModel { waits_for: Set(Some(what.to_owned())), ..Default::default() };
    let is_news = Condition::any().add(Column::WaitsFor.is_null()).add(Column::WaitsFor.ne(what));
    let pending = change(id).set(waiting).filter(Column::State.eq(State::Pending)).filter(is_news);
    pending.exec(&Orm::on(conn)).await.map(drop)
}

/// Its files have their jobs; `without` is what is missing of its day.
pub async fn began(conn: &mut PgConnection, id: Uuid, without: Option<&str>) -> Result<(), DbErr> {
    let running = ActiveModel {
        state: Set(State::Running),
        waits_for: Set(None),
        begun_without: Set(without.map(str::to_owned)),
        ..Default::default()
    };
    let pending = change(id).set(running).filter(Column::State.eq(State::Pending));
    pending.exec(&Orm::on(conn)).await.map(drop)
}

/// A file of the run has ended: done with these rows and bytes, or not. The row stays locked until the caller's
/// transaction ends, so that one of the run's files is its last.
pub async fn file_ended(conn: &mut PgConnection, id: Uuid, made: Option<(i64, i64)>) -> Result<Run, DbErr> {
    let ended = match made {
        Some((rows, bytes)) => change(id)
            .col_expr(Column::Done, Expr::col(Column::Done).add(1))
            .col_expr(Column::Rows, Expr::col(Column::Rows).add(rows))
            .col_expr(Column::Bytes, Expr::col(Column::Bytes).add(bytes)),
        None => change(id).col_expr(Column::Failed, Expr::col(Column::Failed).add(1)),
    };
    changed(conn, id, ended).await
}

/// It could not begin: all of its files that are not done have failed.
pub async fn not_begun(conn: &mut PgConnection, id: Uuid) -> Result<Run, DbErr> {
    let rest = Expr::col(Column::Files).sub(Expr::col(Column::Done));
    changed(conn, id, change(id).col_expr(Column::Failed, rest)).await
}

/// All of its files have ended.
pub async fn finish(conn: &mut PgConnection, id: Uuid, state: State) -> Result<Run, DbErr> {
    let finished = change(id)
        .set(ActiveModel { state: Set(state), ..Default::default() })
        .col_expr(Column::FinishedAt, Expr::cust("clock_timestamp()"));
    changed(conn, id, finished).await
}

/// Somebody asked for its end.
pub async fn request_cancel(conn: &mut PgConnection, id: Uuid) -> Result<(), DbErr> {
    let first = Expr::cust("coalesce(cancel_requested_at, now())");
    change(id).col_expr(Column::CancelRequestedAt, first).exec(&Orm::on(conn)).await.map(drop)
}

/// Its failed files begin again.
pub async fn reopened(conn: &mut PgConnection, id: Uuid) -> Result<Run, DbErr> {
    let running = ActiveModel {
        state: Set(State::Running),
        failed: Set(0),
        cancel_requested_at: Set(None),
        finished_at: Set(None),
        ..Default::default()
    };
    changed(conn, id, change(id).set(running)).await
}
