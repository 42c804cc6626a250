//! API keys, for machines. Everyone makes their own; administrators see and revoke all.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use chassis::{
    ApiResult, Problem,
    auth::Role,
    http::{Json, Query, page},
};
use chrono::{DateTime, Utc};
use sea_orm::TransactionTrait as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{page_size, users::valid_standing};
use crate::{
    domain::{roles::Standing, scopes, users::display_name},
    identity::{Error, Identity, KEY_PREFIX, Opaque, span},
    storage::{
        Digest, api_keys,
        audit::{self, Action},
        users,
    },
};

/// Keys of one user that work at the same time.
const MOST: u64 = 20;
/// Characters of the secret part that stay visible, to tell keys apart.
const VISIBLE: usize = 8;

/// Una clave, sin su secreto.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKey {
    id: Uuid,
    /// Quien la creó.
    user_id: Uuid,
    name: String,
    /// Por lo que se la reconoce.
    #[schema(example = "lote_Xy12ab34")]
    prefix: String,
    role: Role,
    proveedor_id: Option<String>,
    /// Vacío: todo lo que el rol permite.
    scopes: Vec<String>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    /// Con precisión de un minuto.
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl TryFrom<api_keys::Model> for ApiKey {
    type Error = Error;

    fn try_from(key: api_keys::Model) -> Result<Self, Error> {
        let Standing { role, proveedor_id } = key.standing()?;
        Ok(Self {
            id: key.id,
            user_id: key.user_id,
            name: key.name,
            prefix: key.prefix,
            role,
            proveedor_id,
            scopes: key.scopes,
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            revoked_at: key.revoked_at,
        })
    }
}

#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct ListQuery {
    /// El `next` de la página anterior.
    after: Option<Uuid>,
    /// De 1 a 200; 50 si falta.
    limit: Option<u64>,
    /// Las de este usuario; solo para administradores, que sin él ven todas.
    user_id: Option<Uuid>,
}

/// Una página de claves, de la más reciente a la más antigua.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyPage {
    items: Vec<ApiKey>,
    /// Para pedir la página siguiente; nulo en la última.
    next: Option<Uuid>,
}

/// Listar claves de API
#[utoipa::path(
    operation_id = "api_keys_list",
    security(("bearer" = []), ("cookie" = [])),
    get, path = "/api/v1/api-keys", tag = "api-keys", params(ListQuery),
    responses((status = 200, body = ApiKeyPage))
)]
pub(crate) async fn list(
    request: HttpRequest,
    identity: web::Data<Identity>,
    query: Query<ListQuery>,
) -> ApiResult<Json<ApiKeyPage>> {
    let person = identity.person(&request).await?;
    let whose = if person.user.role == Role::Admin { query.user_id } else { Some(person.user.id) };
    if query.user_id.is_some() && query.user_id != whose {
        return Err(Error::Forbidden.into());
    }
    let limit = page_size(query.limit);
    // One more than asked for tells whether there is a next page.
    let mut rows = api_keys::list(identity.orm(), whose, query.after, limit + 1).await?;
    let next = page::cut(&mut rows, limit as i64, |key| key.id);
    let items = rows.into_iter().map(ApiKey::try_from).collect::<Result<_, _>>()?;
    Ok(Json(ApiKeyPage { items, next }))
}

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct NewApiKey {
    /// Para qué es.
    name: String,
    /// El propio si falta; nunca más de lo que permite el propio.
    #[serde(default)]
    role: Option<Role>,
    /// El propio si falta.
    #[serde(default)]
    proveedor_id: Option<String>,
    /// Como `catalog:read`. Vacío: todo lo que el rol permite.
    #[serde(default)]
    scopes: Vec<String>,
    /// A los 90 días si falta; a los 365 como máximo, salvo que la instalación tenga otros plazos.
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
}

/// Una clave nueva: la única vez que se muestra su secreto.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedApiKey {
    /// La clave completa. No se vuelve a mostrar.
    key: String,
    #[serde(flatten)]
    api_key: ApiKey,
}

/// Crear una clave de API
///
/// Se usa en `X-Api-Key` o en `Authorization: ApiKey …`. La clave completa solo aparece en esta respuesta. Caduca, y
/// antes si su dueño pierde los derechos que ella da. Cada usuario tiene 20 como máximo.
#[utoipa::path(
    operation_id = "api_keys_create",
    security(("bearer" = []), ("cookie" = [])),
    post, path = "/api/v1/api-keys", tag = "api-keys", request_body = NewApiKey,
    responses(
        (status = 201, body = CreatedApiKey),
        (status = 403, description = "Permitiría más que el rol propio"),
        (status = 409, description = "El usuario ya tiene 20"),
        (status = 422, description = "Un campo no sirve"),
    )
)]
pub(crate) async fn create(
    request: HttpRequest,
    identity: web::Data<Identity>,
    body: Json<NewApiKey>,
) -> ApiResult {
    let person = identity.person(&request).await?;
    let NewApiKey { name, role, proveedor_id, scopes, expires_at } = body.into_inner();
    let name = display_name(&name).ok_or_else(|| Error::invalid("name", "Use de 1 a 128 caracteres"))?;
    let scopes = scopes::check(scopes).map_err(|malformed| Error::invalid("scopes", malformed))?;
    let now = identity.now();
    let (usual, longest) = (span(identity.settings().key_lifetime), span(identity.settings().key_longest));
    let expires_at = expires_at.unwrap_or(now + usual.min(longest));
    if expires_at <= now {
        return Err(Error::invalid("expires_at", "La caducidad debe estar en el futuro").into());
    }
    if expires_at > now + longest {
        let message = format!("La caducidad debe estar a {} días como máximo", longest.num_days());
        return Err(Error::invalid("expires_at", message).into());
    }
    let own = person.user.standing()?;
    let standing =
        valid_standing(role.unwrap_or(own.role), proveedor_id.or_else(|| own.proveedor_id.clone()))?;
    if !own.covers(&standing) {
        return Err(Error::Forbidden.into());
    }
    let secret = Opaque::generate(KEY_PREFIX)?;
    let prefix = secret.text.expose().chars().take(KEY_PREFIX.len() + VISIBLE).collect();
    let key = api_keys::Model {
        id: Uuid::now_v7(),
        user_id: person.user.id,
        name,
        prefix,
        digest: Digest(secret.digest),
        scopes,
        role: standing.role,
        proveedor_id: standing.proveedor_id,
        created_at: now,
        expires_at: Some(expires_at),
        last_used_at: None,
        revoked_at: None,
    };
    let transaction = identity.orm().begin().await?;
    // Locked, so that two requests don't both make the last one.
    users::get_for_update(&transaction, person.user.id).await?.ok_or(Error::InvalidToken)?;
    if api_keys::count_live(&transaction, person.user.id, now).await? >= MOST {
        return Err(Error::TooManyKeys(MOST).into());
    }
    api_keys::insert(&transaction, key.clone()).await?;
    let details = json!({
        "name": key.name, "prefix": key.prefix, "role": key.role, "proveedor_id": key.proveedor_id,
        "scopes": key.scopes, "expires_at": key.expires_at,
    });
    let target = Some(key.id.to_string());
    audit::record(&transaction, now, Action::ApiKeyCreated, &person.actor(), target, details).await?;
    transaction.commit().await?;
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(CreatedApiKey { key: secret.text.expose().clone(), api_key: ApiKey::try_from(key)? }))
}

/// Revocar una clave de API
///
/// Deja de servir en el acto.
#[utoipa::path(
    operation_id = "api_keys_revoke",
    security(("bearer" = []), ("cookie" = [])),
    delete, path = "/api/v1/api-keys/{id}", tag = "api-keys", params(("id" = Uuid, Path)),
    responses((status = 204, description = "Revocada, o ya lo estaba"))
)]
pub(crate) async fn revoke(
    request: HttpRequest,
    identity: web::Data<Identity>,
    id: web::Path<Uuid>,
) -> ApiResult {
    let person = identity.person(&request).await?;
    let now = identity.now();
    let transaction = identity.orm().begin().await?;
    let key = api_keys::get_for_update(&transaction, *id)
        .await?
        // Somebody else's key does not exist for whoever is no administrator.
        .filter(|key| key.user_id == person.user.id || person.user.role == Role::Admin)
        .ok_or_else(|| Problem::not_found("Clave de API no encontrada"))?;
    if key.revoked_at.is_none() {
        api_keys::revoke(&transaction, key.id, now).await?;
        let details = json!({ "name": key.name, "prefix": key.prefix });
        let target = Some(key.id.to_string());
        audit::record(&transaction, now, Action::ApiKeyRevoked, &person.actor(), target, details).await?;
        transaction.commit().await?;
    }
    Ok(HttpResponse::NoContent().finish())
}
