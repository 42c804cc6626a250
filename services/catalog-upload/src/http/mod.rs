//! The service's API. Paths, field names and messages are contracts with clients there are.

mod accepted;
mod access;
mod downloads;
mod imports;
mod inventory;
mod product_form;
mod products;
mod tasks;
mod templates;

use chassis::{connections::Api, http::Routes, routes};

use crate::Resources;

/// What the service serves.
pub const API: Api = Api { routes, description: "Cargas masivas de productos y catálogo" };

/// What somebody filled in: forms send what nobody did as well.
fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

/// A country as it is kept, where one is asked for.
fn country(text: Option<&str>) -> Option<String> {
    filled(text).map(str::to_ascii_uppercase)
}

/// Every operation, once: where it is served, what the document says, and so what the test of access asks.
fn routes() -> Routes {
    let catalog = routes![
        imports::create,
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
    ];
    // Both spellings are in use.
    catalog.also_under("/api/v1/catalog", "/api/catalog")
}
