//! `campaigns`: what is sent to whom, and how far it is.

use chassis::db::{NoRelation as Relation, Orm, orm};
use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{
    ActiveValue::Set,
    ExprTrait as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
    sqlx::{PgConnection, PgPool},
};

use crate::domain::{
    campaign::{Frozen, Kind, Plan, State},
    own_hour::OwnHour,
};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "campaigns")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// What the ledger and the ids of messages carry of it.
    pub number: i32,
    pub name: String,
    pub description: String,
    pub kind: Kind,
    /// Whether it is the campaign of its day's single messages.
    pub single: bool,
    pub state: State,
    #[sea_orm(column_type = "JsonBinary")]
    pub plan: Plan,
    /// From the start on.
    #[sea_orm(column_type = "JsonBinary")]
    pub frozen: Option<Frozen>,
    /// From the start on: its day in its zone.
    pub date: Option<NaiveDate>,
    /// The job that writes the ledger.
    pub preparation: Option<Uuid>,
    /// `matched = recipients + excluded`.
    pub matched: i64,
    pub recipients: i64,
    pub excluded: i64,
    /// Why it is paused or failed, for people.
    pub reason: Option<String>,
    /// What all of it waits for while it runs: `proveedor`, `presupuesto`, `rampa`.
    pub waiting: Option<String>,
    /// What its next message costs, where its budget has no room for it, in millionths.
    pub budget_needs_micros: Option<i64>,
    /// Until when nothing of it is given to workers.
    pub held_until: Option<DateTime<Utc>>,
    /// Since when more than its first messages go, where its plan has a ramp.
    pub ramped_at: Option<DateTime<Utc>>,
    pub created_by: String,
    pub edited_by: String,
    pub approved_by: Option<String>,
    pub approved_at: Option<DateTime<Utc>>,
    pub start_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    /// The day, and the minute of it, at which each recipient is written to by its own clock, where that is asked for.
    pub own_date: Option<NaiveDate>,
    pub own_minute: Option<i16>,
    pub started_at: Option<DateTime<Utc>>,
    /// When nothing was left to send.
    pub finished_at: Option<DateTime<Utc>>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A campaign's row.
pub type Campaign = Model;

impl Model {
    /// At which hour of its recipients' own clocks it goes; none where all go when it starts.
    pub fn own_hour(&self) -> Option<OwnHour> {
        let (date, minute) = self.own_date.zip(self.own_minute)?;
        Some(OwnHour { date, minute })
    }
}

/// What of a campaign its users decide.
#[derive(Clone, Debug)]
pub struct CampaignValues {
    pub name: String,
    pub description: String,
    pub kind: Kind,
    pub plan: Plan,
}

fn row(values: &CampaignValues, actor: &str) -> ActiveModel {
    ActiveModel {
        name: Set(values.name.clone()),
        description: Set(values.description.clone()),
        kind: Set(values.kind),
        plan: Set(values.plan.clone()),
        edited_by: Set(actor.to_owned()),
        ..Default::default()
    }
}

/// Writes a new draft.
pub async fn insert(
    conn: &mut PgConnection,
    values: &CampaignValues,
    actor: &str,
) -> Result<Campaign, DbErr> {
    let new =
        ActiveModel { id: Set(Uuid::now_v7()), created_by: Set(actor.to_owned()), ..row(values, actor) };
    Entity::insert(new).exec_with_returning(&Orm::on(conn)).await
}

/// Writes a draft again. Whoever approved it approved something else.
pub async fn replace(
    conn: &mut PgConnection,
    id: Uuid,
    values: &CampaignValues,
    actor: &str,
) -> Result<Campaign, DbErr> {
    change(conn, id, ActiveModel { approved_by: Set(None), approved_at: Set(None), ..row(values, actor) })
        .await
}

/// Changes some of a campaign's fields, and raises its version.
pub async fn change(conn: &mut PgConnection, id: Uuid, row: ActiveModel) -> Result<Campaign, DbErr> {
    let written = Entity::update_many()
        .set(row)
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .col_expr(Column::UpdatedAt, Expr::current_timestamp())
        .filter(Column::Id.eq(id))
        .exec_with_returning(&Orm::on(conn))
        .await?
        .pop();
    written.ok_or_else(|| DbErr::RecordNotFound(format!("campaign {id}")))
}

/// Says what all of a campaign waits for. Nobody's edit: its version stays.
pub async fn wait(conn: &mut PgConnection, campaign: &Campaign, what: Option<&str>) -> Result<(), DbErr> {
    if campaign.waiting.as_deref() == what {
        return Ok(());
    }
    Entity::update_many()
        .col_expr(Column::Waiting, Expr::value(what.map(str::to_owned)))
        .filter(Column::Id.eq(campaign.id))
        .exec(&Orm::on(conn))
        .await
        .map(drop)
}

/// Notes what the next message of a campaign costs, for which its budget has no room. The least is noted, and once.
pub async fn needs(conn: &mut PgConnection, number: i32, micros: i64) -> Result<(), DbErr> {
    let less = Column::BudgetNeedsMicros.is_null().or(Column::BudgetNeedsMicros.gt(micros));
    Entity::update_many()
        .col_expr(Column::BudgetNeedsMicros, Expr::value(micros))
        .filter(Column::Number.eq(number))
        .filter(less)
        .exec(&Orm::on(conn))
        .await
        .map(drop)
}

/// Notes that the budget of a campaign has room again.
pub async fn has_room(conn: &mut PgConnection, number: i32) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::BudgetNeedsMicros, Expr::value(Option::<i64>::None))
        .filter(Column::Number.eq(number))
        .exec(&Orm::on(conn))
        .await
        .map(drop)
}

/// Gives nothing of a campaign to workers until then.
pub async fn hold(conn: &mut PgConnection, number: i32, until: DateTime<Utc>) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::HeldUntil, Expr::value(until))
        .filter(Column::Number.eq(number))
        .filter(Column::HeldUntil.is_null().or(Expr::col(Column::HeldUntil).lt(Expr::current_timestamp())))
        .exec(&Orm::on(conn))
        .await
        .map(drop)
}

/// One of them.
pub async fn get(pool: &PgPool, id: Uuid) -> Result<Option<Campaign>, DbErr> {
    Entity::find_by_id(id).one(&orm(pool)).await
}

/// The same in a transaction. It may change meanwhile.
pub async fn find(conn: &mut PgConnection, id: Uuid) -> Result<Option<Campaign>, DbErr> {
    Entity::find_by_id(id).one(&Orm::on(conn)).await
}

/// One of them by its number.
pub async fn by_number(conn: &mut PgConnection, number: i32) -> Result<Option<Campaign>, DbErr> {
    Entity::find().filter(Column::Number.eq(number)).one(&Orm::on(conn)).await
}

/// One of them, nobody else's to change until the transaction ends.
pub async fn lock(conn: &mut PgConnection, id: Uuid) -> Result<Option<Campaign>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(&Orm::on(conn)).await
}

/// The campaign that a preparation's job is about.
pub async fn of_preparation(conn: &mut PgConnection, job: Uuid) -> Result<Option<Campaign>, DbErr> {
    Entity::find().filter(Column::Preparation.eq(job)).one(&Orm::on(conn)).await
}

/// Those that are neither a draft nor finished, in the order of their numbers.
pub async fn live(conn: &mut PgConnection) -> Result<Vec<Campaign>, DbErr> {
    Entity::find()
        .filter(Column::FinishedAt.is_null())
        .filter(Column::State.ne(State::Draft))
        .order_by_asc(Column::Number)
        .all(&Orm::on(conn))
        .await
}

/// The newest, or those before one of them; of one state where it is said.
pub async fn list(
    pool: &PgPool,
    state: Option<State>,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<Campaign>, DbErr> {
    let mut query = Entity::find();
    if let Some(state) = state {
        query = query.filter(Column::State.eq(state));
    }
    if let Some((at, id)) = before {
        let row = Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
        query = query.filter(row.lt(Expr::tuple([at.into(), id.into()])));
    }
    query
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .limit(limit.unsigned_abs())
        .all(&orm(pool))
        .await
}

/// Forgets a draft.
pub async fn delete(conn: &mut PgConnection, id: Uuid) -> Result<(), DbErr> {
    Entity::delete_by_id(id).exec(&Orm::on(conn)).await.map(drop)
}
