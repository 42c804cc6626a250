//! `/.well-known/jwks.json`: the keys with which everyone can check the gateway's tokens.

use actix_web::{HttpResponse, http::header, web};
use chassis::{ApiResult, Problem};

use crate::identity::Identity;

/// Claves públicas
///
/// Un JWK Set (RFC 7517) con las claves Ed25519 que firman, firmaron hasta hace poco o firmarán pronto.
#[utoipa::path(
    operation_id = "signing_keys_list",
    get, path = "/.well-known/jwks.json", tag = "auth", security(()),
    responses((status = 200, description = "JWK Set", body = Object, content_type = "application/jwk-set+json"))
)]
pub(crate) async fn jwks(identity: web::Data<Identity>) -> ApiResult {
    let set = identity.jwks()?;
    Ok(HttpResponse::Ok()
        // A new key is published an hour before it signs: five minutes in a cache are no risk.
        .insert_header((header::CACHE_CONTROL, "public, max-age=300"))
        .content_type("application/jwk-set+json")
        .body(serde_json::to_vec(&set).map_err(Problem::internal)?))
}
