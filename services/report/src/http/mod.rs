//! The service's API. Paths, field names and messages are contracts with clients there are.

mod campaigns;
mod changes;
mod downloads;
mod files;
mod legacy;
mod reports;
mod schedules;

use actix_web::web::{self, ServiceConfig};
use chassis::{
    Problem,
    auth::{Caller, Role},
    http::in_range,
};
use utoipa::OpenApi;

use crate::{Resources, SERVICE};

/// The scopes that a limited credential needs.
const READ: &str = "reports:read";
const WRITE: &str = "reports:write";

/// The service's routes.
pub fn configure(config: &mut ServiceConfig, api: &Resources) {
    config.app_data(web::Data::new(api.clone()));
    config.route("/api-docs/openapi.json", web::get().to(async || web::Json(document())));
    config.configure(legacy::configure).configure(campaigns::configure);
    let scope = web::scope("/api/v1/reports").configure(schedules::configure);
    config.service(
        scope
            .configure(reports::configure)
            .configure(files::configure)
            .configure(changes::configure)
            .configure(downloads::configure),
    );
}

/// Reports are about everybody's campaigns: whoever is bound to one supplier sees none.
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
#[openapi(
    info(title = "report", description = "Reportes de campañas SMS"),
    paths(
        legacy::generate,
        legacy::status,
        campaigns::list,
        campaigns::days,
        reports::create,
        reports::list,
        reports::get,
        files::list,
        files::manifest,
        changes::cancel,
        changes::retry,
        downloads::all,
        downloads::one,
        schedules::create,
        schedules::list,
        schedules::get,
        schedules::replace,
        schedules::delete,
    )
)]
struct Document;
