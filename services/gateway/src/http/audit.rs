//! Who did what, for administrators.

use actix_web::{HttpRequest, web};
use chassis::{
    ApiResult,
    http::{Json, Query, page},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::page_size;
use crate::{
    identity::Identity,
    storage::audit::{self, Filter},
};

#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct ListQuery {
    /// Quién: el id de un usuario.
    actor_id: Option<Uuid>,
    /// Sobre qué: el id de un usuario, una clave de API, una sesión.
    target: Option<String>,
    /// Qué: por ejemplo `login.failed`.
    action: Option<String>,
    /// El `next` de la página anterior.
    before: Option<Uuid>,
    /// De 1 a 200; 50 si falta.
    limit: Option<u64>,
}

/// Algo que se hizo.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Entry {
    id: Uuid,
    at: DateTime<Utc>,
    action: String,
    /// Nulo donde nadie había probado quién es.
    actor_id: Option<Uuid>,
    /// El nombre de usuario que tenía entonces.
    actor: Option<String>,
    target: Option<String>,
    /// La dirección del cliente.
    address: Option<String>,
    #[schema(value_type = Object)]
    details: Value,
}

/// Una página, de lo más reciente a lo más antiguo.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    items: Vec<Entry>,
    /// Para pedir la página siguiente; nulo en la última.
    next: Option<Uuid>,
}

/// Registro de lo que se hizo con usuarios, claves y sesiones
#[utoipa::path(
    operation_id = "audit_list",
    get, path = "/api/v1/audit", tag = "users", params(ListQuery),
    responses((status = 200, body = AuditPage))
)]
pub(crate) async fn list(
    request: HttpRequest,
    identity: web::Data<Identity>,
    query: Query<ListQuery>,
) -> ApiResult<Json<AuditPage>> {
    identity.admin(&request).await?;
    let ListQuery { actor_id, target, action, before, limit } = query.into_inner();
    let limit = page_size(limit);
    let filter = Filter { actor_id, target, action, before };
    // One more than asked for tells whether there is a next page.
    let mut rows = audit::list(identity.orm(), filter, limit + 1).await?;
    let next = page::cut(&mut rows, limit as i64, |row| row.id);
    let items = rows.into_iter().map(|row| Entry {
        id: row.id,
        at: row.at,
        action: row.action,
        actor_id: row.actor_id,
        actor: row.actor,
        target: row.target,
        address: row.address,
        details: row.details,
    });
    Ok(Json(AuditPage { items: items.collect(), next }))
}
