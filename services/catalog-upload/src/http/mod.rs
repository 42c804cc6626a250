//! The service's API. Paths, field names and messages are contracts with clients there are.

mod imports;
mod products;

use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};
use aws_sdk_s3::Client;
use chassis::{admin::Admin, db::Database};
use utoipa::OpenApi;

use crate::{SERVICE, config::ImportSettings, live::Statuses};

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    pub database: Database,
    pub statuses: Statuses,
    pub s3: Client,
    pub bucket: String,
    pub settings: Arc<ImportSettings>,
}

/// The service's routes.
pub fn configure(config: &mut ServiceConfig, api: &Api, admin: &Admin) {
    config.app_data(web::Data::new(api.clone())).configure(|config| admin.configure(config));
    config.route("/api-docs/openapi.json", web::get().to(async || web::Json(document())));
    // Both spellings are in use.
    for base in ["/api/v1/catalog", "/api/catalog"] {
        config.service(web::scope(base).configure(imports::configure).configure(products::configure));
    }
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
    paths(imports::upload, imports::status, imports::list, products::list, products::get)
)]
struct Document;
