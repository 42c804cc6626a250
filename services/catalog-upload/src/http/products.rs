//! The catalog as its clients read it.

use std::time::Instant;

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, Query, ServiceConfig},
};
use chassis::{
    Problem,
    auth::{Caller, Role},
    http::{IfMatch, in_range},
};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Resources,
    edits::{NewProduct, Values, edit_problem},
    imports::{READ, WRITE, supplier},
};
use crate::{
    jobs::{Change, publish_changes},
    storage::products::{self, Column, Filter, Model, Sort},
};

pub fn configure(config: &mut ServiceConfig) {
    config
        .route("/items", web::get().to(list))
        .route("/items", web::post().to(create))
        .route("/items/{id}", web::get().to(get))
        .route("/items/{id}", web::put().to(replace))
        .route("/items/{id}", web::delete().to(delete));
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
pub(super) fn as_number<S: serde::Serializer>(price: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
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

impl Meta {
    pub fn new(page: u64, size: u64, total: u64, started: Instant) -> Self {
        Self { page, size, total, took_ms: started.elapsed().as_millis() as u64 }
    }
}

/// A page of products.
#[utoipa::path(
    get, path = "/api/v1/catalog/items", tag = "catalog", params(ListQuery),
    responses((status = 200, body = ProductPage), (status = 400), (status = 401), (status = 403)),
    security(("bearer" = []))
)]
pub(super) async fn list(
    api: Data<Resources>,
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
    let items = found.into_iter().map(Product::from).collect();
    Ok(HttpResponse::Ok().json(ProductPage { items, meta: Meta::new(page, size, total, started) }))
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

/// There is none, or it is not the caller's to see.
pub(super) fn no_product(id: &str) -> Problem {
    Problem::not_found(format!("Producto {id} no encontrado"))
}

/// The product, with its version as `ETag`.
fn shown(status: actix_web::http::StatusCode, model: Model) -> HttpResponse {
    let version = format!("\"{}\"", model.version);
    HttpResponse::build(status).insert_header(("ETag", version)).json(Product::from(model))
}

/// One product.
#[utoipa::path(
    get, path = "/api/v1/catalog/items/{id}", tag = "catalog", params(("id" = String, Path)),
    responses((status = 200, body = Product), (status = 401), (status = 404)),
    security(("bearer" = []))
)]
pub(super) async fn get(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    caller.require_scope(READ)?;
    Ok(shown(actix_web::http::StatusCode::OK, visible(&api, &caller, &id).await?))
}

async fn visible(api: &Resources, caller: &Caller, id: &str) -> Result<Model, Problem> {
    if id.contains('\0') {
        return Err(no_product(id));
    }
    let product = products::get(&api.database.orm, id).await?.ok_or_else(|| no_product(id))?;
    if caller.may_see(&product.proveedor_id) { Ok(product) } else { Err(no_product(id)) }
}

/// The supplier of a product that the caller may change.
async fn changeable(api: &Resources, caller: &Caller, id: &str) -> Result<String, Problem> {
    may_write(caller)?;
    let Model { proveedor_id, .. } = visible(api, caller, id).await?;
    acts_for(caller, &proveedor_id)?;
    Ok(proveedor_id)
}

fn may_write(caller: &Caller) -> Result<(), Problem> {
    caller.require(&[Role::Admin, Role::Operator, Role::Supplier])?;
    caller.require_scope(WRITE)
}

fn acts_for(caller: &Caller, proveedor_id: &str) -> Result<(), Problem> {
    if caller.may_act_for(proveedor_id) {
        Ok(())
    } else {
        Err(Problem::forbidden(format!("No puede cambiar productos del proveedor {proveedor_id}")))
    }
}

/// A new product, under the rules of a workbook's row.
#[utoipa::path(
    post, path = "/api/v1/catalog/items", tag = "catalog", request_body = NewProduct,
    responses(
        (status = 201, body = Product), (status = 400), (status = 401), (status = 403),
        (status = 409, description = "El ID o el Código ya existe"),
        (status = 422, description = "Un valor no cumple las reglas"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn create(
    api: Data<Resources>,
    caller: Caller,
    body: web::Json<NewProduct>,
) -> Result<HttpResponse, Problem> {
    may_write(&caller)?;
    let NewProduct { id, proveedor_id, values } = body.into_inner();
    let proveedor_id = supplier(proveedor_id.as_deref().or(caller.proveedor_id()))?.to_owned();
    acts_for(&caller, &proveedor_id)?;
    let row = values.check(&id)?;
    let mut transaction = api.database.pool.begin().await?;
    let created = products::create(&mut transaction, &row, &proveedor_id, caller.id()).await;
    let model = created.map_err(|error| edit_problem(error, &row.id, &row.codigo))?;
    let change = std::iter::once((row.id.as_str(), Change::Created));
    publish_changes(&mut transaction, &proveedor_id, "", model.version, change).await?;
    transaction.commit().await?;
    Ok(shown(actix_web::http::StatusCode::CREATED, model))
}

/// Other values for a product; its id and supplier stay.
#[utoipa::path(
    put, path = "/api/v1/catalog/items/{id}", tag = "catalog",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "El ETag leído: si el producto cambió desde entonces, 412")),
    request_body = Values,
    responses(
        (status = 200, body = Product), (status = 400), (status = 401), (status = 403), (status = 404),
        (status = 409, description = "El Código ya existe"), (status = 412, description = "El producto cambió"),
        (status = 422, description = "Un valor no cumple las reglas"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn replace(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
    body: web::Json<Values>,
) -> Result<HttpResponse, Problem> {
    let proveedor_id = changeable(&api, &caller, &id).await?;
    let row = body.into_inner().check(&id)?;
    let mut transaction = api.database.pool.begin().await?;
    let replaced = products::replace(&mut transaction, &row, expected.0, caller.id()).await;
    let model = replaced.map_err(|error| edit_problem(error, &row.id, &row.codigo))?;
    let change = std::iter::once((row.id.as_str(), Change::Updated));
    publish_changes(&mut transaction, &proveedor_id, "", model.version, change).await?;
    transaction.commit().await?;
    Ok(shown(actix_web::http::StatusCode::OK, model))
}

/// Deletes a product with its inventory.
#[utoipa::path(
    delete, path = "/api/v1/catalog/items/{id}", tag = "catalog",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "El ETag leído: si el producto cambió desde entonces, 412")),
    responses(
        (status = 204), (status = 401), (status = 403), (status = 404), (status = 412, description = "El producto cambió"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn delete(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
) -> Result<HttpResponse, Problem> {
    let proveedor_id = changeable(&api, &caller, &id).await?;
    let mut transaction = api.database.pool.begin().await?;
    let deleted = products::delete(&mut transaction, &id, expected.0, caller.id()).await;
    let version = deleted.map_err(|error| edit_problem(error, &id, ""))?;
    let change = std::iter::once((id.as_str(), Change::Deleted));
    publish_changes(&mut transaction, &proveedor_id, "", version, change).await?;
    transaction.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
