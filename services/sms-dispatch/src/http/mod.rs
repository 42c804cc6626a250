//! The service's API.

mod changes;
mod contacts;
mod import_view;
mod imports;
mod segments;
mod stats;
mod suppression_imports;
mod suppressions;
mod validations;
mod view;

use actix_web::web::{self, ServiceConfig};
use chassis::{
    Problem,
    auth::{Caller, Role},
};
use utoipa::OpenApi;

use crate::{Resources, SERVICE};

/// The scopes that a limited credential needs.
const READ: &str = "contacts:read";
const WRITE: &str = "contacts:write";

/// The service's routes.
pub fn configure(config: &mut ServiceConfig, api: &Resources) {
    config.app_data(web::Data::new(api.clone()));
    config.route("/api-docs/openapi.json", web::get().to(async || web::Json(document())));
    let contacts = web::scope("/api/v1/contacts")
        .configure(imports::configure)
        .configure(validations::configure)
        .configure(stats::configure);
    config.service(contacts.configure(contacts::configure).configure(changes::configure));
    let suppressions = web::scope("/api/v1/suppressions").configure(suppression_imports::configure);
    config.service(suppressions.configure(suppressions::configure));
    config.service(web::scope("/api/v1/segments").configure(segments::configure));
}

/// Contacts are nobody's in particular: whoever is bound to one supplier sees none.
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

/// Whether what a person could be reached by is hidden from the caller.
fn sees_masked(caller: &Caller) -> bool {
    caller.role() == Role::Viewer
}

/// The service's part of the platform's OpenAPI document.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.merge(chassis::admin::openapi(SERVICE));
    document
}

#[derive(OpenApi)]
#[openapi(
    info(title = "sms-dispatch", description = "Contactos, segmentos y campañas SMS"),
    paths(
        imports::upload,
        imports::list,
        imports::get,
        imports::report,
        imports::cancel,
        imports::roll_back,
        contacts::list,
        contacts::get,
        changes::patch,
        changes::opt_out,
        changes::opt_in,
        stats::stats,
        validations::start,
        validations::list,
        validations::get,
        validations::cancel,
        validations::retry,
        suppression_imports::import,
        suppressions::get,
        suppressions::delete,
        segments::create,
        segments::list,
        segments::get,
        segments::replace,
        segments::delete,
        segments::preview,
    )
)]
struct Document;
