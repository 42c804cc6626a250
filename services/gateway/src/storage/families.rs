//! `token_families`: logins. Each is a family of refresh tokens or one cookie session, and can be ended; by SQL, so that
//! it goes with its tokens in one statement.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, IntoActiveModel as _, QuerySelect as _, entity::prelude::*,
};

use chassis::db::sql;

use super::Digest;
use crate::domain::refresh;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "token_families")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub user_id: Uuid,
    /// Hash of the cookie; none for a chain of refresh tokens.
    pub session_digest: Option<Digest>,
    pub generation: i32,
    pub advanced_at: DateTime<Utc>,
    /// For sessions, to the minute.
    pub last_used_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
    pub revoked_for: Option<EndReason>,
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
    /// What the rule of rotation needs to know.
    pub fn facts(&self) -> refresh::Family {
        refresh::Family {
            generation: self.generation,
            advanced_at: self.advanced_at,
            expires_at: self.expires_at,
            revoked: self.revoked_at.is_some(),
        }
    }
}

/// Stores a new family.
pub async fn insert(connection: &impl ConnectionTrait, family: Model) -> Result<(), DbErr> {
    Entity::insert(family.into_active_model().reset_all()).exec_without_returning(connection).await?;
    Ok(())
}

/// A family, locked until the transaction ends: exchanges of its tokens take turns.
pub async fn get_for_update(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(connection).await
}

/// The session of a cookie, with its user.
pub async fn session(
    connection: &impl ConnectionTrait,
    digest: Vec<u8>,
) -> Result<Option<(Model, super::users::Model)>, DbErr> {
    let found = Entity::find()
        .filter(Column::SessionDigest.eq(Digest(digest)))
        .find_also_related(super::users::Entity)
        .one(connection)
        .await?;
    Ok(found.and_then(|(session, user)| Some((session, user?))))
}

/// Opens the next generation.
pub async fn advance(
    connection: &impl ConnectionTrait,
    family: &Model,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let next = ActiveModel {
        id: Set(family.id),
        generation: Set(family.generation + 1),
        advanced_at: Set(now),
        last_used_at: Set(now),
        ..Default::default()
    };
    Entity::update(next).exec(connection).await?;
    Ok(())
}

/// Notes that a session was used.
pub async fn touch(connection: &impl ConnectionTrait, id: Uuid, now: DateTime<Utc>) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::LastUsedAt, Expr::value(now))
        .filter(Column::Id.eq(id))
        .exec(connection)
        .await?;
    Ok(())
}

/// Why a login ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum EndReason {
    /// A refresh token was used a second time.
    #[sea_orm(string_value = "reuse")]
    Reuse,
    #[sea_orm(string_value = "logout")]
    Logout,
    /// The user has another password,
    #[sea_orm(string_value = "password")]
    Password,
    /// another role,
    #[sea_orm(string_value = "role")]
    Role,
    /// was disabled,
    #[sea_orm(string_value = "disabled")]
    Disabled,
    /// or deleted.
    #[sea_orm(string_value = "deleted")]
    Deleted,
}

/// Why and when logins end.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    pub reason: EndReason,
    /// Now.
    pub now: DateTime<Utc>,
    /// How long an access token may be believed after it was made.
    pub tokens_live: TimeDelta,
}

/// Ends one login.
pub async fn revoke(connection: &impl ConnectionTrait, id: Uuid, ending: Ending) -> Result<(), DbErr> {
    end(connection, "id", id, ending).await
}

/// Ends every login of a user.
pub async fn revoke_all(connection: &impl ConnectionTrait, user: Uuid, ending: Ending) -> Result<(), DbErr> {
    end(connection, "user_id", user, ending).await
}

/// One statement, so that no login ends without its tokens. Those of a login that was not used lately have expired.
async fn end(
    connection: &impl ConnectionTrait,
    column: &'static str,
    id: Uuid,
    Ending { reason, now, tokens_live }: Ending,
) -> Result<(), DbErr> {
    let statement = format!(
        "WITH ended AS (
             UPDATE token_families SET revoked_at = $2, revoked_for = $3
             WHERE {column} = $1 AND revoked_at IS NULL
             RETURNING id, last_used_at)
         INSERT INTO ended_sessions (id, until) SELECT id, $4 FROM ended WHERE last_used_at > $5
         ON CONFLICT (id) DO NOTHING"
    );
    let values =
        [id.into(), now.into(), reason.into(), (now + tokens_live).into(), (now - tokens_live).into()];
    connection.execute_raw(sql(statement, values)).await?;
    Ok(())
}

/// Deletes families that ended by themselves before `before`, with their tokens. Revoked ones stay until
/// then, so that a reuse is still recognised as one.
pub async fn prune(connection: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    Ok(Entity::delete_many().filter(Column::ExpiresAt.lt(before)).exec(connection).await?.rows_affected)
}
