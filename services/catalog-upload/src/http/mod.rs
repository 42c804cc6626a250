//! The service's API. Paths, field names and messages are contracts with clients there are.

mod downloads;
mod edits;
mod form;
mod imports;
mod inventory;
mod products;
mod tasks;
mod templates;

use actix_web::web::{self, ServiceConfig};
use utoipa::OpenApi;

use crate::{Resources, SERVICE};

/// The service's routes.
pub fn configure(config: &mut ServiceConfig, api: &Resources) {
    config.app_data(web::Data::new(api.clone()));
    config.route("/api-docs/openapi.json", web::get().to(async || web::Json(document())));
    // Both spellings are in use.
    for base in ["/api/v1/catalog", "/api/catalog"] {
        let scope = web::scope(base).configure(imports::configure).configure(tasks::configure);
        let scope = scope.configure(downloads::configure).configure(templates::configure);
        config.service(scope.configure(products::configure).configure(inventory::configure_product));
    }
    config.service(web::scope("/api/v1/inventory").configure(inventory::configure));
}

/// The service's part of the platform's OpenAPI document.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.merge(chassis::admin::openapi(SERVICE));
    document
}

#[derive(OpenApi)]
#[openapi(
    info(title = "catalog-upload", description = "Cargas masivas de productos y catálogo"),
    paths(
        imports::upload,
        imports::status,
        imports::list,
        tasks::cancel,
        tasks::retry,
        tasks::apply,
        tasks::undo_import,
        downloads::original,
        downloads::errors,
        downloads::changes,
        downloads::annotated,
        templates::template,
        products::list,
        products::get,
        products::create,
        products::replace,
        products::delete,
        inventory::of_bodega,
        inventory::of_product,
    )
)]
struct Document;
