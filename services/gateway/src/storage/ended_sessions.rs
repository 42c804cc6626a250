//! `ended_sessions`: logins that were ended while access tokens of theirs may still be believed. Few at any time: a row
//! goes with the last of its tokens. A table of its own, because a family is gone with its user.

use chassis::db::NoRelation as Relation;
use chrono::{DateTime, Utc};
use sea_orm::{QuerySelect as _, entity::prelude::*};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ended_sessions")]
pub struct Model {
    /// That of the family.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub until: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// All of them, by the ids of their families.
pub async fn all(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Vec<Uuid>, DbErr> {
    let live = Entity::find().select_only().column(Column::Id).filter(Column::Until.gt(now));
    live.into_tuple().all(connection).await
}

/// Forgets those whose tokens have all expired.
pub async fn prune(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::Until.lte(now)).exec(connection).await.map(drop)
}
