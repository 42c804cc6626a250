//! `sms_senders` and `sms_providers`: in whose name messages go out, and through whom.

use std::time::Duration;

use chassis::db::{NoRelation as Relation, Orm, orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ExprTrait as _, QueryOrder as _,
    entity::prelude::*,
    sqlx::{self, PgConnection, PgPool},
};

use crate::domain::sender::{ProviderName, SenderKind};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sms_senders")]
pub struct Model {
    /// A number in E.164, a short code's digits, a name, or the id of a pool.
    #[sea_orm(primary_key, auto_increment = false)]
    pub address: String,
    pub provider: ProviderName,
    pub kind: SenderKind,
    /// Parts a second.
    pub per_second: f64,
    /// What a part costs, in millionths of `currency`.
    pub price_micros: Option<i64>,
    /// ISO 4217.
    pub currency: Option<String>,
    pub enabled: bool,
    /// Until when nothing is asked in its name, by what its provider said.
    pub held_until: Option<DateTime<Utc>>,
    pub created_by: String,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A sender's row.
pub type Sender = Model;

impl Model {
    /// Whether messages may go out in its name now.
    pub fn is_usable(&self, now: DateTime<Utc>) -> bool {
        self.enabled && self.held_until.is_none_or(|until| until <= now)
    }
}

/// What of a sender its users decide.
#[derive(Clone, Debug)]
pub struct SenderValues {
    pub address: String,
    pub provider: ProviderName,
    pub kind: SenderKind,
    pub per_second: f64,
    pub price: Option<(i64, String)>,
    pub enabled: bool,
}

/// Writes a sender, or one that is there again, which is held no more: who writes it has looked.
pub async fn put(conn: &mut PgConnection, values: &SenderValues, actor: &str) -> Result<Sender, DbErr> {
    let (price, currency) = values.price.clone().unzip();
    let row = ActiveModel {
        address: Set(values.address.clone()),
        provider: Set(values.provider),
        kind: Set(values.kind),
        per_second: Set(values.per_second),
        price_micros: Set(price),
        currency: Set(currency),
        enabled: Set(values.enabled),
        created_by: Set(actor.to_owned()),
        ..Default::default()
    };
    let changed = sea_orm::sea_query::OnConflict::column(Column::Address)
        .update_columns([
            Column::Provider,
            Column::Kind,
            Column::PerSecond,
            Column::PriceMicros,
            Column::Currency,
            Column::Enabled,
            Column::HeldUntil,
        ])
        .value(Column::Version, Expr::cust("sms_senders.version + 1"))
        .value(Column::UpdatedAt, Expr::current_timestamp())
        .to_owned();
    Entity::insert(row).on_conflict(changed).exec_with_returning(&Orm::on(conn)).await
}

/// All of them.
pub async fn list(pool: &PgPool) -> Result<Vec<Sender>, DbErr> {
    Entity::find().order_by_asc(Column::Address).all(&orm(pool)).await
}

/// Those that are in use.
pub async fn enabled(conn: &mut PgConnection) -> Result<Vec<Sender>, DbErr> {
    let used = Entity::find().filter(Column::Enabled.eq(true)).order_by_asc(Column::Address);
    used.all(&Orm::on(conn)).await
}

/// Those of these addresses.
pub async fn of(conn: &mut PgConnection, addresses: &[String]) -> Result<Vec<Sender>, DbErr> {
    Entity::find().filter(Column::Address.is_in(addresses)).all(&Orm::on(conn)).await
}

/// Takes one out of use. Gives whether it was in use.
pub async fn disable(conn: &mut PgConnection, address: &str) -> Result<bool, DbErr> {
    disable_by(conn, address, None).await
}

/// The same by what is known of a moment, if it is given: unless somebody kept it after that.
pub async fn disable_by(
    conn: &mut PgConnection,
    address: &str,
    known_of: Option<DateTime<Utc>>,
) -> Result<bool, DbErr> {
    let mut disable = Entity::update_many()
        .set(ActiveModel { enabled: Set(false), ..Default::default() })
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .col_expr(Column::UpdatedAt, Expr::current_timestamp())
        .filter(Column::Address.eq(address))
        .filter(Column::Enabled.eq(true));
    if let Some(moment) = known_of {
        disable = disable.filter(Column::UpdatedAt.lte(moment));
    }
    Ok(disable.exec(&Orm::on(conn)).await?.rows_affected > 0)
}

/// Has nothing asked in a sender's name for so long. It is never held for less than it was before.
pub async fn hold(conn: &mut PgConnection, address: &str, time: Duration) -> sqlx::Result<()> {
    sqlx::query(
        "update sms_senders set held_until = greatest(held_until, clock_timestamp() + make_interval(secs => $2))
         where address = $1",
    )
    .bind(address)
    .bind(time.as_secs_f64())
    .execute(conn)
    .await
    .map(drop)
}
