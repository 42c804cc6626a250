//! `api_keys`: API keys, as hashes.

use std::time::Duration;

use chassis::auth::Role;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait as _, Condition, IntoActiveModel as _, PaginatorTrait as _, QueryOrder as _,
    QuerySelect as _, entity::prelude::*,
};

use super::Digest;
use crate::domain::roles::Standing;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Who made it, and in whose name it acts.
    pub user_id: Uuid,
    pub name: String,
    /// The visible part, by which people recognise it.
    pub prefix: String,
    pub digest: Digest,
    pub scopes: Vec<String>,
    pub role: Role,
    pub proveedor_id: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    /// To the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(belongs_to = "super::users::Entity", from = "Column::UserId", to = "super::users::Column::Id")]
    User,
}

impl Related<super::users::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::User.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The role with what it is bound to.
    ///
    /// # Errors
    /// A row that the table's checks should have refused.
    pub fn standing(&self) -> Result<Standing, DbErr> {
        super::users::standing(self.role, self.proveedor_id.clone())
    }

    /// When it ends: one that was made before keys had to end, as late as a key may end at all.
    pub fn ends_at(&self, longest: Duration) -> DateTime<Utc> {
        let latest = self.created_at + TimeDelta::from_std(longest).unwrap_or(TimeDelta::MAX);
        self.expires_at.unwrap_or(latest)
    }
}

/// Stores a new key.
pub async fn insert(connection: &impl ConnectionTrait, key: Model) -> Result<(), DbErr> {
    Entity::insert(key.into_active_model().reset_all()).exec_without_returning(connection).await?;
    Ok(())
}

/// The key with that hash, with its user.
pub async fn find(
    connection: &impl ConnectionTrait,
    digest: Vec<u8>,
) -> Result<Option<(Model, super::users::Model)>, DbErr> {
    let found = Entity::find()
        .filter(Column::Digest.eq(Digest(digest)))
        .find_also_related(super::users::Entity)
        .one(connection)
        .await?;
    Ok(found.and_then(|(key, user)| Some((key, user?))))
}

/// A key by id, with its user.
pub async fn get(
    connection: &impl ConnectionTrait,
    id: Uuid,
) -> Result<Option<(Model, super::users::Model)>, DbErr> {
    let found = Entity::find_by_id(id).find_also_related(super::users::Entity).one(connection).await?;
    Ok(found.and_then(|(key, user)| Some((key, user?))))
}

/// How many keys of a user work now, as far as the keys themselves say.
pub async fn count_live(
    connection: &impl ConnectionTrait,
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<u64, DbErr> {
    Entity::find()
        .filter(Column::UserId.eq(user))
        .filter(Column::RevokedAt.is_null())
        .filter(Condition::any().add(Column::ExpiresAt.is_null()).add(Column::ExpiresAt.gt(now)))
        .count(connection)
        .await
}

/// A key by id, for changing.
pub async fn get_for_update(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(connection).await
}

/// Keys, newest first: one user's, or everyone's.
pub async fn list(
    connection: &impl ConnectionTrait,
    user: Option<Uuid>,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find();
    if let Some(user) = user {
        query = query.filter(Column::UserId.eq(user));
    }
    if let Some(before) = before {
        query = query.filter(Column::Id.lt(before));
    }
    query.order_by_desc(Column::Id).limit(limit).all(connection).await
}

/// Notes that a key was used.
pub async fn touch(connection: &impl ConnectionTrait, id: Uuid, now: DateTime<Utc>) -> Result<(), DbErr> {
    set(connection, id, Column::LastUsedAt, now).await
}

/// Ends a key.
pub async fn revoke(connection: &impl ConnectionTrait, id: Uuid, now: DateTime<Utc>) -> Result<(), DbErr> {
    set(connection, id, Column::RevokedAt, now).await
}

async fn set(
    connection: &impl ConnectionTrait,
    id: Uuid,
    column: Column,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(column, Expr::value(now))
        .filter(Column::Id.eq(id))
        .exec(connection)
        .await?;
    Ok(())
}
