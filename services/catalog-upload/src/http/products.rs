//! The catalog as its clients read it.

use std::time::Instant;

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, Query, ServiceConfig},
};
use chassis::{Problem, auth::Caller};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use crate::storage::products::{self, Column, Filter, Model, Sort};

const READ: &str = "catalog:read";

pub fn configure(config: &mut ServiceConfig) {
    config.route("/items", web::get().to(list)).route("/items/{id}", web::get().to(get));
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Product {
    id: String,
    nombre: String,
    codigo: String,
    categoria: String,
    presentacion: Option<String>,
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = f64)]
    precio_unitario: Decimal,
    requisitos_almacenamiento: String,
    certificado_sanitario: String,
    tiempo_entrega_dias: i32,
    proveedor_id: String,
}

/// Clients expect a JSON number; 12 digits with 2 decimals fit a double exactly enough to print the same.
fn as_number<S: serde::Serializer>(price: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(price.to_f64().unwrap_or_default())
}

impl From<Model> for Product {
    fn from(model: Model) -> Self {
        Self {
            id: model.id,
            nombre: model.nombre,
            codigo: model.codigo,
            categoria: model.categoria,
            presentacion: model.presentacion,
            precio_unitario: model.precio_unitario,
            requisitos_almacenamiento: model.condiciones_almacenamiento,
            certificado_sanitario: model.certificado_sanitario,
            tiempo_entrega_dias: model.tiempo_entrega_dias,
            proveedor_id: model.proveedor_id,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListQuery {
    /// Words, or beginnings of words, of name, code or id; accents and case aside.
    q: Option<String>,
    categoria_id: Option<String>,
    codigo: Option<String>,
    proveedor_id: Option<String>,
    /// From 1.
    #[param(minimum = 1)]
    page: Option<u64>,
    /// Products a page, 1 to 50.
    #[param(minimum = 1, maximum = 50)]
    size: Option<u64>,
    /// `id`, `nombre`, `codigo`, `precio`, `categoria`, `actualizado`; a `-` before it reverses.
    sort: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProductPage {
    items: Vec<Product>,
    meta: Meta,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    page: u64,
    size: u64,
    total: u64,
    took_ms: u64,
}

/// A page of products.
#[utoipa::path(
    get, path = "/api/v1/catalog/items", tag = "catalog", params(ListQuery),
    responses((status = 200, body = ProductPage), (status = 400), (status = 401), (status = 403)),
    security(("bearer" = []))
)]
pub(super) async fn list(
    api: Data<Api>,
    caller: Caller,
    query: Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let started = Instant::now();
    caller.require_scope(READ)?;
    let own = caller.sees_only()?;
    let query = query.into_inner();
    if let (Some(own), Some(wanted)) = (own, &query.proveedor_id)
        && own != wanted
    {
        return Err(Problem::forbidden(format!("No puede ver los productos del proveedor {wanted}")));
    }
    let page = in_range("page", query.page.unwrap_or(1), 1, 1_000_000)?;
    let size = in_range("size", query.size.unwrap_or(20), 1, 50)?;
    let sort = parse_sort(query.sort.as_deref().unwrap_or("id"))?;
    let filter = Filter {
        words: query.q,
        categoria: query.categoria_id,
        codigo: query.codigo,
        proveedor_id: own.map(str::to_owned).or(query.proveedor_id),
    };
    let (found, total) = products::list(&api.database.orm, &filter, sort, page - 1, size).await?;
    let took_ms = started.elapsed().as_millis() as u64;
    let items = found.into_iter().map(Product::from).collect();
    Ok(HttpResponse::Ok().json(ProductPage { items, meta: Meta { page, size, total, took_ms } }))
}

fn in_range(name: &str, value: u64, least: u64, most: u64) -> Result<u64, Problem> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        let detail = format!("{name} es {value}; se espera de {least} a {most}");
        Err(Problem::bad_request("invalid_page", detail))
    }
}

fn parse_sort(text: &str) -> Result<Sort, Problem> {
    let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    let by = match name {
        "id" => Column::Id,
        "nombre" => Column::Nombre,
        "codigo" => Column::Codigo,
        "precio" => Column::PrecioUnitario,
        "categoria" => Column::Categoria,
        "actualizado" => Column::UpdatedAt,
        _ => {
            let detail = format!(
                "sort {text:?} inválido; se espera id, nombre, codigo, precio, categoria o actualizado"
            );
            return Err(Problem::bad_request("invalid_sort", detail));
        }
    };
    Ok(Sort { by, descending })
}

/// One product.
#[utoipa::path(
    get, path = "/api/v1/catalog/items/{id}", tag = "catalog", params(("id" = String, Path)),
    responses((status = 200, body = Product), (status = 401), (status = 404)),
    security(("bearer" = []))
)]
pub(super) async fn get(api: Data<Api>, caller: Caller, id: Path<String>) -> Result<HttpResponse, Problem> {
    caller.require_scope(READ)?;
    let not_found = || Problem::not_found(format!("Producto {id} no encontrado"));
    if id.contains('\0') {
        return Err(not_found());
    }
    let product = products::get(&api.database.orm, &id).await?.ok_or_else(not_found)?;
    if !caller.may_see(&product.proveedor_id) {
        return Err(not_found());
    }
    Ok(HttpResponse::Ok().json(Product::from(product)))
}
