//! Changing a user, and what that ends.

use actix_web::{HttpRequest, web};
use chassis::{ApiResult, auth::Role, config::Secret, http::Json};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    EntityTrait as _, TransactionTrait as _,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{User, record, taken, valid_email, valid_name, valid_standing};
use crate::{
    domain::password,
    http::secret::optional_secret,
    identity::{Error, Identity, Person},
    storage::{
        PasswordHash,
        audit::Action,
        families::{self, EndReason},
        users,
    },
};

/// Qué cambiar. Un campo que falta queda como está; `null` vacía los dos que pueden estar vacíos.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct UserChange {
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    email: Option<Option<String>>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    role: Option<Role>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    proveedor_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "optional_secret")]
    #[schema(value_type = Option<String>)]
    password: Option<Secret<String>>,
    #[serde(default)]
    disabled: Option<bool>,
}

/// Tells `null` (`Some(None)`) from absent (`None`).
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Cambiar un usuario
///
/// Otro rol, otro proveedor, otra contraseña o la deshabilitación cierran todas sus sesiones en el acto. El nombre de
/// usuario no cambia.
#[utoipa::path(
    operation_id = "users_update",
    security(("bearer" = []), ("cookie" = [])),
    patch, path = "/api/v1/users/{id}", tag = "users", params(("id" = Uuid, Path)), request_body = UserChange,
    responses(
        (status = 200, body = User),
        (status = 409, description = "Correo en uso, o es el último administrador"),
        (status = 422, description = "Un campo no sirve"),
    )
)]
pub(crate) async fn update(
    request: HttpRequest,
    identity: web::Data<Identity>,
    id: web::Path<Uuid>,
    body: Json<UserChange>,
) -> ApiResult<Json<User>> {
    change(&request, &identity, *id, body.into_inner()).await
}

/// Deshabilitar un usuario
///
/// Cierra sus sesiones y detiene sus claves de API.
#[utoipa::path(
    operation_id = "users_disable",
    security(("bearer" = []), ("cookie" = [])),
    post, path = "/api/v1/users/{id}/disable", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 200, body = User), (status = 409, description = "Es el último administrador"))
)]
pub(crate) async fn disable(
    request: HttpRequest,
    identity: web::Data<Identity>,
    id: web::Path<Uuid>,
) -> ApiResult<Json<User>> {
    change(&request, &identity, *id, UserChange { disabled: Some(true), ..UserChange::default() }).await
}

/// Habilitar un usuario
#[utoipa::path(
    operation_id = "users_enable",
    security(("bearer" = []), ("cookie" = [])),
    post, path = "/api/v1/users/{id}/enable", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 200, body = User))
)]
pub(crate) async fn enable(
    request: HttpRequest,
    identity: web::Data<Identity>,
    id: web::Path<Uuid>,
) -> ApiResult<Json<User>> {
    change(&request, &identity, *id, UserChange { disabled: Some(false), ..UserChange::default() }).await
}

async fn change(
    request: &HttpRequest,
    identity: &Identity,
    id: Uuid,
    change: UserChange,
) -> ApiResult<Json<User>> {
    let person = identity.admin(request).await?;
    Ok(Json(apply(identity, &person, id, change).await?))
}

async fn apply(identity: &Identity, person: &Person, id: Uuid, change: UserChange) -> Result<User, Error> {
    let before = users::get(identity.orm(), id).await?.ok_or(Error::NotFound("Usuario"))?;
    let email = change.email.map(|email| email.map(|email| valid_email(&email)).transpose()).transpose()?;
    let name = change.name.map(|name| valid_name(&name)).transpose()?;
    // Hashing takes long: before the row is locked.
    let hash = match change.password {
        Some(password) => {
            let email = email.clone().unwrap_or_else(|| before.email.clone());
            password::check(password.expose(), &before.username, email.as_deref())
                .map_err(|weakness| Error::invalid("password", weakness))?;
            Some(identity.hasher().hash(password).await?)
        }
        None => None,
    };
    let now = identity.now();
    let transaction = identity.orm().begin().await?;
    let removes_admin = change.disabled == Some(true) || change.role.is_some_and(|role| role != Role::Admin);
    let alone = removes_admin && !users::another_admin(&transaction, id).await?;
    let current = users::get_for_update(&transaction, id).await?.ok_or(Error::NotFound("Usuario"))?;
    if alone && current.role == Role::Admin && current.disabled_at.is_none() {
        return Err(Error::LastAdmin);
    }
    let role = change.role.unwrap_or(current.role);
    // Whoever becomes an operator or an administrator is bound to nobody any more.
    let bound =
        if matches!(role, Role::Admin | Role::Operator) { None } else { current.proveedor_id.clone() };
    let standing = valid_standing(role, change.proveedor_id.unwrap_or(bound))?;
    let disabled_at = match change.disabled {
        Some(true) => current.disabled_at.or(Some(now)),
        Some(false) => None,
        None => current.disabled_at,
    };
    let user = users::Model {
        email: email.unwrap_or_else(|| current.email.clone()),
        name: name.unwrap_or_else(|| current.name.clone()),
        role: standing.role,
        proveedor_id: standing.proveedor_id,
        disabled_at,
        updated_at: now,
        ..current.clone()
    };
    let row = users::ActiveModel {
        id: Set(id),
        email: Set(user.email.clone()),
        name: Set(user.name.clone()),
        role: Set(user.role),
        proveedor_id: Set(user.proveedor_id.clone()),
        disabled_at: Set(user.disabled_at),
        updated_at: Set(now),
        password_hash: hash.clone().map_or(NotSet, |hash| Set(PasswordHash(hash))),
        ..Default::default()
    };
    users::Entity::update(row).exec(&transaction).await.map_err(taken)?;
    let moved = user.role != current.role || user.proveedor_id != current.proveedor_id;
    let barred = user.disabled_at.is_some() && current.disabled_at.is_none();
    for (ends, reason) in
        [(hash.is_some(), EndReason::Password), (moved, EndReason::Role), (barred, EndReason::Disabled)]
    {
        if ends {
            families::revoke_all(&transaction, id, identity.ending(reason, now)).await?;
        }
    }
    let action = match change.disabled {
        _ if barred => Action::UserDisabled,
        Some(false) if current.disabled_at.is_some() => Action::UserEnabled,
        _ => Action::UserUpdated,
    };
    let details = difference(&current, &user, hash.is_some());
    record(&transaction, person, now, action, id, details).await?;
    transaction.commit().await?;
    identity.apply_ended_sessions().await;
    User::try_from(user)
}

/// What changed, for the audit: from and to, but of a password only that it did.
fn difference(before: &users::Model, after: &users::Model, password: bool) -> Value {
    let mut changes = Map::new();
    for (field, from, to) in [
        ("email", json!(before.email), json!(after.email)),
        ("name", json!(before.name), json!(after.name)),
        ("role", json!(before.role), json!(after.role)),
        ("proveedor_id", json!(before.proveedor_id), json!(after.proveedor_id)),
        ("disabled", json!(before.disabled_at.is_some()), json!(after.disabled_at.is_some())),
    ] {
        if from != to {
            changes.insert(field.to_owned(), json!({ "from": from, "to": to }));
        }
    }
    if password {
        changes.insert("password".to_owned(), json!("changed"));
    }
    Value::Object(changes)
}
