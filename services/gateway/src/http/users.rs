//! Users, for administrators.

pub(crate) mod change;

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use chassis::{
    ApiResult,
    auth::Role,
    config::Secret,
    http::{Json, Query, page},
};
use chrono::{DateTime, Utc};
use sea_orm::{DatabaseTransaction, EntityTrait as _, TransactionTrait as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{page_size, secret::secret};
use crate::{
    domain::{password, roles::Standing, users as rules},
    identity::{Error, Identity, Person},
    storage::{
        PasswordHash,
        audit::{self, Action},
        families::{self, EndReason},
        users::{self, Filter},
    },
};

/// Un usuario, sin nada secreto.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    pub(crate) id: Uuid,
    pub(crate) username: String,
    email: Option<String>,
    name: String,
    role: Role,
    /// El proveedor al que está ligado: siempre con el rol supplier, a veces con viewer.
    proveedor_id: Option<String>,
    disabled: bool,
    disabled_at: Option<DateTime<Utc>>,
    last_login_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<users::Model> for User {
    type Error = Error;

    fn try_from(user: users::Model) -> Result<Self, Error> {
        let Standing { role, proveedor_id } = user.standing()?;
        Ok(Self {
            id: user.id,
            username: user.username,
            email: user.email,
            name: user.name,
            role,
            proveedor_id,
            disabled: user.disabled_at.is_some(),
            disabled_at: user.disabled_at,
            last_login_at: user.last_login_at,
            created_at: user.created_at,
            updated_at: user.updated_at,
        })
    }
}

#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct ListQuery {
    /// Texto que aparece en el nombre de usuario, el correo o el nombre.
    q: Option<String>,
    #[param(value_type = Option<String>)]
    role: Option<Role>,
    disabled: Option<bool>,
    /// El `next` de la página anterior.
    after: Option<String>,
    /// De 1 a 200; 50 si falta.
    limit: Option<u64>,
}

/// Una página de usuarios.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserPage {
    items: Vec<User>,
    /// Para pedir la página siguiente; nulo en la última.
    next: Option<String>,
}

/// Listar usuarios
#[utoipa::path(
    operation_id = "users_list",
    security(("bearer" = []), ("cookie" = [])),
    get, path = "/api/v1/users", tag = "users", params(ListQuery),
    responses((status = 200, body = UserPage))
)]
pub(crate) async fn list(
    request: HttpRequest,
    identity: web::Data<Identity>,
    query: Query<ListQuery>,
) -> ApiResult<Json<UserPage>> {
    identity.admin(&request).await?;
    let ListQuery { q, role, disabled, after, limit } = query.into_inner();
    let limit = page_size(limit);
    let text = q.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = Filter { text, role, disabled, after };
    // One more than asked for tells whether there is a next page.
    let mut rows = users::list(identity.orm(), filter, limit + 1).await?;
    let next = page::cut(&mut rows, limit as i64, |user| user.username.clone());
    let items = rows.into_iter().map(User::try_from).collect::<Result<_, _>>()?;
    Ok(Json(UserPage { items, next }))
}

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewUser {
    /// De 3 a 64: letras sin acento, cifras, punto, guion y guion bajo.
    username: String,
    #[serde(default)]
    email: Option<String>,
    /// El de usuario si falta.
    #[serde(default)]
    name: Option<String>,
    /// De 10 a 128 caracteres.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    password: Secret<String>,
    role: Role,
    #[serde(default)]
    proveedor_id: Option<String>,
}

/// Crear un usuario
#[utoipa::path(
    operation_id = "users_create",
    security(("bearer" = []), ("cookie" = [])),
    post, path = "/api/v1/users", tag = "users", request_body = NewUser,
    responses(
        (status = 201, body = User),
        (status = 409, description = "Nombre o correo ya en uso"),
        (status = 422, description = "Un campo no sirve"),
    )
)]
pub(crate) async fn create(
    request: HttpRequest,
    identity: web::Data<Identity>,
    body: Json<NewUser>,
) -> ApiResult {
    let person = identity.admin(&request).await?;
    let NewUser { username, email, name, password, role, proveedor_id } = body.into_inner();
    let username = valid_username(&username)?;
    let email = email.map(|email| valid_email(&email)).transpose()?;
    let name = valid_name(name.as_deref().unwrap_or(&username))?;
    let standing = valid_standing(role, proveedor_id)?;
    password::check(password.expose(), &username, email.as_deref())
        .map_err(|weakness| Error::invalid("password", weakness))?;
    let hash = identity.hasher().hash(password).await?;
    let now = identity.now();
    let user = users::Model {
        id: Uuid::now_v7(),
        username,
        email,
        name,
        password_hash: PasswordHash(hash),
        role: standing.role,
        proveedor_id: standing.proveedor_id,
        disabled_at: None,
        last_login_at: None,
        created_at: now,
        updated_at: now,
    };
    let transaction = identity.orm().begin().await?;
    users::insert(&transaction, user.clone()).await.map_err(taken)?;
    let details = json!({
        "username": user.username, "email": user.email, "role": user.role, "proveedor_id": user.proveedor_id,
    });
    record(&transaction, &person, now, Action::UserCreated, user.id, details).await?;
    transaction.commit().await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/api/v1/users/{}", user.id)))
        .json(User::try_from(user)?))
}

/// Ver un usuario
#[utoipa::path(
    operation_id = "users_get",
    security(("bearer" = []), ("cookie" = [])),
    get, path = "/api/v1/users/{id}", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 200, body = User))
)]
pub(crate) async fn get(
    request: HttpRequest,
    identity: web::Data<Identity>,
    id: web::Path<Uuid>,
) -> ApiResult<Json<User>> {
    identity.admin(&request).await?;
    let user = users::get(identity.orm(), *id).await?.ok_or(Error::NotFound("Usuario"))?;
    Ok(Json(User::try_from(user)?))
}

/// Borrar un usuario
///
/// Con sus sesiones y sus claves de API. Lo que hizo queda en la auditoría.
#[utoipa::path(
    operation_id = "users_delete",
    security(("bearer" = []), ("cookie" = [])),
    delete, path = "/api/v1/users/{id}", tag = "users", params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "Borrado"),
        (status = 409, description = "Es el último administrador"),
    )
)]
pub(crate) async fn delete(
    request: HttpRequest,
    identity: web::Data<Identity>,
    id: web::Path<Uuid>,
) -> ApiResult {
    let person = identity.admin(&request).await?;
    let id = id.into_inner();
    let now = identity.now();
    let transaction = identity.orm().begin().await?;
    let alone = !users::another_admin(&transaction, id).await?;
    let user = users::get_for_update(&transaction, id).await?.ok_or(Error::NotFound("Usuario"))?;
    if alone && user.role == Role::Admin && user.disabled_at.is_none() {
        return Err(Error::LastAdmin.into());
    }
    families::revoke_all(&transaction, id, identity.ending(EndReason::Deleted, now)).await?;
    users::Entity::delete_by_id(id).exec(&transaction).await?;
    let details = json!({ "username": user.username, "role": user.role });
    record(&transaction, &person, now, Action::UserDeleted, id, details).await?;
    transaction.commit().await?;
    identity.apply_ended_sessions().await;
    Ok(HttpResponse::NoContent().finish())
}

async fn record(
    transaction: &DatabaseTransaction,
    person: &Person,
    now: DateTime<Utc>,
    action: Action,
    user: Uuid,
    details: Value,
) -> Result<(), Error> {
    Ok(audit::record(transaction, now, action, &person.actor(), Some(user.to_string()), details).await?)
}

fn taken(error: sea_orm::DbErr) -> Error {
    match users::taken(&error) {
        Some("email") => Error::Taken("correo"),
        Some(_) => Error::Taken("nombre de usuario"),
        None => error.into(),
    }
}

fn valid_username(text: &str) -> Result<String, Error> {
    rules::username(text).ok_or_else(|| {
        Error::invalid("username", "Use de 3 a 64 letras sin acento, cifras, puntos, guiones o guiones bajos")
    })
}

fn valid_email(text: &str) -> Result<String, Error> {
    rules::email(text).ok_or_else(|| Error::invalid("email", "No parece un correo electrónico"))
}

fn valid_name(text: &str) -> Result<String, Error> {
    rules::display_name(text).ok_or_else(|| Error::invalid("name", "Use de 1 a 128 caracteres"))
}

pub(super) fn valid_standing(role: Role, proveedor_id: Option<String>) -> Result<Standing, Error> {
    Standing::new(role, proveedor_id).map_err(|unbound| Error::invalid("proveedor_id", unbound))
}
