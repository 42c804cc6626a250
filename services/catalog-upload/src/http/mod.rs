//! The service's API. Paths, field names and messages are contracts with clients there are.

mod imports;
mod products;

use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};
use aws_sdk_s3::Client;
use chassis::db::Database;
use utoipa::OpenApi;

use crate::{config::ImportSettings, live::Statuses};

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
pub fn configure(config: &mut ServiceConfig, api: &Api) {
    config.app_data(web::Data::new(api.clone()));
    // Both spellings are in use.
    for base in ["/api/v1/catalog", "/api/catalog"] {
        config.service(web::scope(base).configure(imports::configure).configure(products::configure));
    }
}

/// The service's part of the platform's OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    info(title = "catalog-upload", description = "Cargas masivas de productos y catálogo"),
    paths(imports::upload, imports::status, imports::list, products::list, products::get)
)]
pub struct Document;
