//! The service's API. Paths, field names and messages are contracts with clients there are.

mod collections;

use actix_web::web::{self, ServiceConfig};
use chassis::{
    Problem,
    auth::{Caller, Role},
};
use utoipa::OpenApi;

use crate::{Resources, SERVICE};

/// The scopes that a limited credential needs.
const READ: &str = "etl:read";
const WRITE: &str = "etl:write";

/// The service's routes.
pub fn configure(config: &mut ServiceConfig, api: &Resources) {
    config.app_data(web::Data::new(api.clone()));
    config.route("/api-docs/openapi.json", web::get().to(async || web::Json(document())));
    config.configure(collections::configure);
}

/// Sales and collections are everybody's: whoever is bound to one supplier sees none.
fn may_read(caller: &Caller) -> Result<(), Problem> {
    caller.require(&[Role::Admin, Role::Operator, Role::Viewer])?;
    if caller.proveedor_id().is_some() {
        return Err(Problem::forbidden("La cuenta está limitada a un proveedor"));
    }
    caller.require_scope(READ)
}

fn may_write(caller: &Caller) -> Result<(), Problem> {
    caller.require(&[Role::Admin, Role::Operator])?;
    caller.require_scope(WRITE)
}

/// The service's part of the platform's OpenAPI document.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.merge(chassis::admin::openapi(SERVICE));
    document
}

#[derive(OpenApi)]
#[openapi(info(title = "etl", description = "Sincronización de ventas y cobranzas"), paths(
    collections::dashboard,
    collections::dashboard_by_filters,
    collections::evolution,
    collections::evolution_by_filters,
    collections::evolution_carteras,
    collections::evolution_metrics,
    collections::assignment,
    collections::operation,
    collections::productivity,
    collections::filters,
))]
struct Document;
