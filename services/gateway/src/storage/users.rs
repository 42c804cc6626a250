//! `users`: who can log in.

use chassis::{auth::Role, db::NoRelation as Relation};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _, entity::prelude::*,
    sea_query,
};

use super::PasswordHash;
use crate::domain::roles::Standing;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Lower case, without `@`.
    pub username: String,
    /// Lower case.
    pub email: Option<String>,
    pub name: String,
    pub password_hash: PasswordHash,
    pub role: Role,
    pub proveedor_id: Option<String>,
    pub disabled_at: Option<DateTime<Utc>>,
    pub last_login_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// The role with what it is bound to.
    ///
    /// # Errors
    /// A row that the table's checks should have refused.
    pub fn standing(&self) -> Result<Standing, DbErr> {
        standing(self.role, self.proveedor_id.clone())
    }
}

pub(super) fn standing(role: Role, proveedor_id: Option<String>) -> Result<Standing, DbErr> {
    Standing::new(role, proveedor_id).map_err(|error| DbErr::Type(error.to_string()))
}

/// Stores a new user.
pub async fn insert(connection: &impl ConnectionTrait, user: Model) -> Result<(), DbErr> {
    Entity::insert(user.into_active_model().reset_all()).exec_without_returning(connection).await?;
    Ok(())
}

/// A user by id.
pub async fn get(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

/// A user by id, who does not change until this transaction ends.
pub async fn get_for_share(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).lock_shared().one(connection).await
}

/// A user by id, for changing.
pub async fn get_for_update(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(connection).await
}

/// A user by name or address, in lower case.
pub async fn find_by_login(connection: &impl ConnectionTrait, login: &str) -> Result<Option<Model>, DbErr> {
    // PostgreSQL's texts hold no NUL: nobody has such a name, and asking would be an error.
    if login.contains('\0') {
        return Ok(None);
    }
    let by = if login.contains('@') { Column::Email.eq(login) } else { Column::Username.eq(login) };
    Entity::find().filter(by).one(connection).await
}

/// Which users to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Occurs in user name, address or name, in any case.
    pub text: Option<String>,
    pub role: Option<Role>,
    pub disabled: Option<bool>,
    /// Only user names after this one.
    pub after: Option<String>,
}

/// Users in the order of their names. Pages walk the unique index on `username`; the text is a filter on
/// the way, which serves the few thousand users that a back office has.
pub async fn list(
    connection: &impl ConnectionTrait,
    filter: Filter,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut wanted = Condition::all();
    if filter.text.iter().chain(&filter.after).any(|text| text.contains('\0')) {
        return Ok(Vec::new());
    }
    if let Some(text) = filter.text {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let pattern = format!("%{escaped}%");
        let mut anywhere = Condition::any();
        for column in [Column::Username, Column::Email, Column::Name] {
            use sea_query::extension::postgres::PgExpr as _;
            anywhere = anywhere.add(Expr::col(column).ilike(pattern.clone()));
        }
        wanted = wanted.add(anywhere);
    }
    wanted = wanted
        .add_option(filter.role.map(|role| Column::Role.eq(role)))
        .add_option(filter.after.map(|after| Column::Username.gt(after)))
        .add_option(filter.disabled.map(|disabled| {
            if disabled { Column::DisabledAt.is_not_null() } else { Column::DisabledAt.is_null() }
        }));
    Entity::find().filter(wanted).order_by_asc(Column::Username).limit(limit).all(connection).await
}

/// Whether an enabled administrator other than `id` exists. Locks all of them until the transaction ends, so
/// that two who remove each other at the same time don't both succeed.
pub async fn another_admin(connection: &impl ConnectionTrait, id: Uuid) -> Result<bool, DbErr> {
    let admins = Entity::find()
        .filter(Column::Role.eq(Role::Admin))
        .filter(Column::DisabledAt.is_null())
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .all(connection)
        .await?;
    Ok(admins.iter().any(|admin| admin.id != id))
}

/// Notes a login, and the hash at today's cost if it was made again: `(old, new)`, written only where the old
/// one still stands.
pub async fn logged_in(
    connection: &impl ConnectionTrait,
    id: Uuid,
    now: DateTime<Utc>,
    rehashed: Option<(String, String)>,
) -> Result<(), DbErr> {
    let user = ActiveModel { last_login_at: Set(Some(now)), ..Default::default() };
    Entity::update_many().set(user).filter(Column::Id.eq(id)).exec(connection).await?;
    if let Some((old, new)) = rehashed {
        let user = ActiveModel { password_hash: Set(PasswordHash(new)), ..Default::default() };
        Entity::update_many()
            .set(user)
            .filter(Column::Id.eq(id))
            .filter(Column::PasswordHash.eq(PasswordHash(old)))
            .exec(connection)
            .await?;
    }
    Ok(())
}

/// Which unique field a refused insert or update ran into.
pub fn taken(error: &DbErr) -> Option<&'static str> {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(message)) if message.contains("email") => Some("email"),
        Some(SqlErr::UniqueConstraintViolation(_)) => Some("username"),
        _ => None,
    }
}
