use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

use super::Identity;
use crate::http::{api_keys, audit, auth, jwks, users};

impl Identity {
    /// Mounts `/api/v1/auth/…` (also `/auth/…`), `/api/v1/me`, `/api/v1/users`, `/api/v1/audit`, `/api/v1/api-keys` and
    /// `/.well-known/jwks.json`.
    pub fn configure(&self, config: &mut ServiceConfig) {
        config
            .app_data(web::Data::new(self.clone()))
            .configure(auth::routes)
            .configure(users::routes)
            .configure(audit::routes)
            .configure(api_keys::routes)
            .configure(jwks::routes);
    }
}

#[derive(OpenApi)]
#[openapi(
    paths(
        auth::login,
        auth::refresh,
        auth::logout,
        auth::me,
        auth::change_password,
        users::list,
        users::create,
        users::get,
        users::change::update,
        users::change::disable,
        users::change::enable,
        users::delete,
        audit::list,
        api_keys::list,
        api_keys::create,
        api_keys::revoke,
        jwks::jwks,
    ),
    tags(
        (name = "auth", description = "Inicio de sesión, renovación y cierre"),
        (name = "users", description = "Usuarios (administradores)"),
        (name = "api-keys", description = "Claves de API para máquinas"),
    ),
)]
struct Api;

/// What is mounted by [`Identity::configure`], for the gateway's document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}
