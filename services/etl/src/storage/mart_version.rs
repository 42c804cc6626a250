//! `mart_version`: which data the dashboards show. One row.

use chassis::db::NoRelation as Relation;
use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, entity::prelude::*};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "mart_version")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub only_one: bool,
    pub version: i64,
    /// Drawn when the row is made, and again when the schema is restored: versions of another epoch are other data.
    pub epoch: Uuid,
    /// The source's moment that it shows; none: there is no data yet.
    pub as_of: Option<DateTime<Utc>>,
    pub refreshed_at: Option<DateTime<Utc>>,
    /// Why it stays as it is; none: it does not.
    pub held_back: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}

/// Which data the dashboards show now.
///
/// # Errors
/// The database.
pub async fn get(connection: &impl ConnectionTrait) -> Result<Model, DbErr> {
    let version = Entity::find().one(connection).await?;
    version.ok_or_else(|| DbErr::RecordNotFound("mart_version".to_owned()))
}

/// Says why the marts stay as they are, until the next refresh.
///
/// # Errors
/// The database.
pub async fn hold_back(connection: &impl ConnectionTrait, reason: &str) -> Result<(), DbErr> {
    let held_back = ActiveModel { held_back: Set(Some(reason.to_owned())), ..Default::default() };
    Entity::update_many().set(held_back).exec(connection).await.map(drop)
}
