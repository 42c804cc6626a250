//! `signing_keys`: the keys that sign tokens; the private part is sealed.

use chassis::db::NoRelation as Relation;
use chrono::{DateTime, Utc};
use sea_orm::{QueryOrder as _, entity::prelude::*};

use super::Digest;

/// Taken before keys are made or withdrawn, so that replicas agree on one set.
pub const TURN: &str = "gateway signing keys";

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signing_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub kid: String,
    pub public_key: Vec<u8>,
    pub sealed_seed: Digest,
    pub activates_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// All keys, by when they sign.
pub async fn all(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
    Entity::find().order_by_asc(Column::ActivatesAt).all(connection).await
}

/// All keys, for changing the set.
pub async fn all_in_turn(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
    super::take_turn(connection, TURN).await?;
    all(connection).await
}

/// Withdraws keys.
pub async fn delete(connection: &impl ConnectionTrait, kids: &[String]) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::Kid.eq_any(kids)).exec(connection).await?;
    Ok(())
}
