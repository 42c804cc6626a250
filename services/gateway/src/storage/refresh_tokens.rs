//! `refresh_tokens`: refresh tokens, as hashes.

use chassis::db::NoRelation as Relation;
use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, entity::prelude::*};

use super::{Digest, families};
use crate::domain::refresh;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "refresh_tokens")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub family_id: Uuid,
    pub digest: Digest,
    pub generation: i32,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// What the rule of rotation needs to know.
    pub fn facts(&self) -> refresh::Presented {
        refresh::Presented { generation: self.generation, expires_at: self.expires_at }
    }
}

/// The token with that hash.
pub async fn find(connection: &impl ConnectionTrait, digest: Vec<u8>) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::Digest.eq(Digest(digest))).one(connection).await
}

/// Stores a token of a family's generation. It never outlives the family.
pub async fn insert(
    connection: &impl ConnectionTrait,
    family: &families::Model,
    generation: i32,
    digest: Vec<u8>,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<(), DbErr> {
    let token = ActiveModel {
        id: Set(Uuid::now_v7()),
        family_id: Set(family.id),
        digest: Set(Digest(digest)),
        generation: Set(generation),
        created_at: Set(now),
        expires_at: Set(expires_at.min(family.expires_at)),
    };
    Entity::insert(token).exec_without_returning(connection).await?;
    Ok(())
}
