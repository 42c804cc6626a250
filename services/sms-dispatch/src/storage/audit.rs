//! `contact_audit`: who did what with personal data.

use chassis::db::{NoRelation as Relation, Orm};
use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, QuerySelect as _, entity::prelude::*, sqlx::PgConnection};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "contact_audit")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub at: DateTime<Utc>,
    pub actor: String,
    pub action: String,
    /// The id or the phone of what it was done with.
    pub subject: Option<String>,
    #[sea_orm(column_type = "JsonBinary")]
    pub details: Json,
}

impl ActiveModelBehavior for ActiveModel {}

/// Writes that `actor` did something, in the transaction in which it was done.
pub async fn record(
    conn: &mut PgConnection,
    actor: &str,
    action: &str,
    subject: Option<&str>,
    details: &Value,
) -> Result<(), DbErr> {
    let row = ActiveModel {
        actor: Set(actor.to_owned()),
        action: Set(action.to_owned()),
        subject: Set(subject.map(str::to_owned)),
        details: Set(details.clone()),
        ..Default::default()
    };
    Entity::insert(row).exec_without_returning(&Orm::on(conn)).await.map(drop)
}

/// How often `actor` did something since then, and when first. Served by the index of the latest rows: `since` is not long ago.
pub async fn since(
    conn: &mut PgConnection,
    actor: &str,
    action: &str,
    since: DateTime<Utc>,
) -> Result<(i64, Option<DateTime<Utc>>), DbErr> {
    let query = Entity::find()
        .select_only()
        .column_as(Column::Id.count(), "times")
        .column_as(Column::At.min(), "first")
        .filter(Column::At.gt(since))
        .filter(Column::Actor.eq(actor))
        .filter(Column::Action.eq(action));
    let found = query.into_tuple().one(&Orm::on(conn)).await?;
    Ok(found.unwrap_or_default())
}

/// Whether `actor` did something with a subject since then.
pub async fn did_with(
    conn: &mut PgConnection,
    actor: &str,
    action: &str,
    subject: &str,
    since: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let query = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::At.gt(since))
        .filter(Column::Actor.eq(actor))
        .filter(Column::Action.eq(action))
        .filter(Column::Subject.eq(subject));
    Ok(query.into_tuple::<i64>().one(&Orm::on(conn)).await?.is_some())
}
