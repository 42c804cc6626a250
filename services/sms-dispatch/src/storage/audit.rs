//! `contact_audit`: who did what with personal data.

use chassis::db::Orm;
use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, entity::prelude::*, sqlx::PgConnection};
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

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

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
