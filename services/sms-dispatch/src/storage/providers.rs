//! `sms_providers`: who carries messages, and whether it takes them now.

use chassis::db::{Orm, orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    Condition, ExprTrait as _, QueryOrder as _,
    entity::prelude::*,
    sqlx::{PgConnection, PgPool},
};

use crate::domain::sender::ProviderName;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sms_providers")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: ProviderName,
    /// Parts a second that the account may send.
    pub per_second: f64,
    /// Since when nothing is asked of it, and why.
    pub closed_at: Option<DateTime<Utc>>,
    pub closed_reason: Option<String>,
    /// When it opens by itself.
    pub opens_at: Option<DateTime<Utc>>,
    /// The lowest balance since it was closed, or what it was opened with by its balance, in millionths: above it is money again.
    pub lowest_micros: Option<i64>,
    /// Until when it was asked who opted out with it.
    pub opt_outs_until: Option<DateTime<Utc>>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A provider's row.
pub type Provider = Model;

/// Writes the rate of a provider that is configured; what it says of being closed stays.
pub async fn configure(pool: &PgPool, name: ProviderName, per_second: f64) -> Result<(), DbErr> {
    let row = ActiveModel { name: Set(name), per_second: Set(per_second), ..Default::default() };
    let changed = sea_orm::sea_query::OnConflict::column(Column::Name)
        .update_column(Column::PerSecond)
        .value(Column::UpdatedAt, Expr::current_timestamp())
        .to_owned();
    Entity::insert(row).on_conflict(changed).exec_without_returning(&orm(pool)).await.map(drop)
}

/// All of them.
pub async fn list(connection: &impl ConnectionTrait) -> Result<Vec<Provider>, DbErr> {
    Entity::find().order_by_asc(Column::Name).all(connection).await
}

/// Closes one, unless it is closed already. Gives whether it was open.
pub async fn close(
    conn: &mut PgConnection,
    name: ProviderName,
    reason: &str,
    opens_at: Option<DateTime<Utc>>,
) -> Result<bool, DbErr> {
    let row = ActiveModel {
        closed_reason: Set(Some(reason.to_owned())),
        opens_at: Set(opens_at),
        ..Default::default()
    };
    let closed = Entity::update_many()
        .set(row)
        .col_expr(Column::ClosedAt, Expr::current_timestamp())
        .col_expr(Column::UpdatedAt, Expr::current_timestamp())
        .filter(Column::Name.eq(name))
        .filter(Column::ClosedAt.is_null())
        .exec(&Orm::on(conn))
        .await?;
    Ok(closed.rows_affected > 0)
}

/// Opens those whose time has come, or the one named. Gives how many were closed.
pub async fn open(conn: &mut PgConnection, name: Option<ProviderName>) -> Result<u64, DbErr> {
    let row = ActiveModel {
        closed_at: Set(None),
        closed_reason: Set(None),
        opens_at: Set(None),
        ..Default::default()
    };
    let which = match name {
        Some(name) => Condition::all().add(Column::Name.eq(name)),
        None => Condition::all().add(Expr::col(Column::OpensAt).lte(Expr::current_timestamp())),
    };
    let opened = Entity::update_many()
        .set(row)
        .col_expr(Column::UpdatedAt, Expr::current_timestamp())
        .filter(which)
        .filter(Column::ClosedAt.is_not_null())
        .exec(&Orm::on(conn))
        .await?;
    Ok(opened.rows_affected)
}

/// Notes the balance of a provider that is closed: the lowest one, or the one that opens it.
pub async fn note_balance(
    conn: &mut PgConnection,
    name: ProviderName,
    balance_micros: i64,
    opens: bool,
) -> Result<(), DbErr> {
    let lowest = match opens {
        true => Expr::value(balance_micros),
        // Which leaves out what is not known yet.
        false => Expr::cust_with_values("least(lowest_micros, $1)", [balance_micros]),
    };
    Entity::update_many()
        .col_expr(Column::LowestMicros, lowest)
        .filter(Column::Name.eq(name))
        .exec(&Orm::on(conn))
        .await
        .map(drop)
}

/// Notes until when a provider was asked who opted out with it.
pub async fn note_opt_outs(pool: &PgPool, name: ProviderName, until: DateTime<Utc>) -> Result<(), DbErr> {
    Entity::update_many()
        .set(ActiveModel { opt_outs_until: Set(Some(until)), ..Default::default() })
        .filter(Column::Name.eq(name))
        .exec(&orm(pool))
        .await
        .map(drop)
}
