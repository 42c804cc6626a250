//! Stock as its clients read it.

use std::time::Instant;

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult,
    auth::Caller,
    http::{Query, in_range},
};
use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Resources,
    access::READ,
    country, filled,
    products::{Meta, as_number, visible},
};
use crate::storage::inventory::{self, Filter, Stock};

/// Un lote.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Lot {
    producto_id: String,
    producto_nombre: String,
    producto_codigo: String,
    categoria: String,
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = f64)]
    precio_unitario: Decimal,
    bodega_id: String,
    pais: String,
    lote: String,
    cantidad: i64,
    fecha_vencimiento: NaiveDate,
    condiciones: String,
    stock_minimo: i32,
    stock_critico: i32,
    estado_stock: StockState,
    /// `bodega_id`, como lo lee el diálogo de existencias.
    #[serde(rename = "bodegaId")]
    bodega: String,
    /// `fecha_vencimiento`, como lo lee el diálogo de existencias.
    vence: NaiveDate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum StockState {
    Normal,
    /// Los que están en el mínimo o por debajo.
    Bajo,
    /// Los que están en el crítico o por debajo.
    Critico,
}

impl StockState {
    fn of(stock: &Stock) -> Self {
        if stock.cantidad <= i64::from(stock.stock_critico) {
            Self::Critico
        } else if stock.cantidad <= i64::from(stock.stock_minimo) {
            Self::Bajo
        } else {
            Self::Normal
        }
    }
}

impl From<Stock> for Lot {
    fn from(stock: Stock) -> Self {
        Self {
            estado_stock: StockState::of(&stock),
            producto_id: stock.producto_id,
            producto_nombre: stock.producto_nombre,
            producto_codigo: stock.producto_codigo,
            categoria: stock.categoria,
            precio_unitario: stock.precio_unitario,
            bodega: stock.bodega_id.clone(),
            vence: stock.fecha_vencimiento,
            bodega_id: stock.bodega_id,
            pais: stock.pais,
            lote: stock.lote,
            cantidad: stock.cantidad,
            fecha_vencimiento: stock.fecha_vencimiento,
            condiciones: stock.condiciones,
            stock_minimo: stock.stock_minimo,
            stock_critico: stock.stock_critico,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct StockQuery {
    /// `CO`, `PE`, …
    pais: Option<String>,
    /// Solo lotes de los que queda algo.
    #[serde(default)]
    con_stock: bool,
    /// Desde 1.
    #[param(minimum = 1)]
    page: Option<u64>,
    /// Lotes por página, de 1 a 200.
    #[param(minimum = 1, maximum = 200)]
    size: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct ProductStockQuery {
    /// Solo lotes de esta bodega.
    #[serde(rename = "bodegaId")]
    bodega_id: Option<String>,
    /// `CO`, `PE`, …
    pais: Option<String>,
    /// Solo lotes de los que queda algo.
    #[serde(default)]
    con_stock: bool,
    /// Desde 1.
    #[param(minimum = 1)]
    page: Option<u64>,
    /// Lotes por página, de 1 a 200.
    #[param(minimum = 1, maximum = 200)]
    size: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StockPage {
    items: Vec<Lot>,
    meta: Meta,
}

/// What is in a warehouse.
#[utoipa::path(
    operation_id = "bodegas_list_stock", summary = "Listar las existencias de una bodega",
    description = "Lote por lote.",
    get, path = "/api/v1/inventory/bodega/{bodega_id}/productos", tag = "inventory",
    params(("bodega_id" = String, Path), StockQuery),
    responses((status = 200, body = StockPage))
)]
pub(super) async fn of_bodega(
    api: Data<Resources>,
    caller: Caller,
    bodega_id: Path<String>,
    query: Query<StockQuery>,
) -> ApiResult {
    caller.require_scope(READ)?;
    let pais = country(query.pais.as_deref());
    let filter = Filter {
        bodega_id: Some(&bodega_id),
        proveedor_id: caller.sees_only()?,
        pais: pais.as_deref(),
        with_stock: query.con_stock,
        ..Filter::default()
    };
    page(&api, filter, query.page, query.size).await
}

/// Where a product is in stock.
#[utoipa::path(
    operation_id = "products_list_stock", summary = "Listar las existencias de un producto",
    description = "Lote por lote, en todas las bodegas o en una.",
    get, path = "/api/v1/catalog/items/{id}/inventario", tag = "inventory",
    params(("id" = String, Path), ProductStockQuery),
    responses((status = 200, body = StockPage))
)]
pub(super) async fn of_product(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    query: Query<ProductStockQuery>,
) -> ApiResult {
    caller.require_scope(READ)?;
    visible(&api, &caller, &id).await?;
    let pais = country(query.pais.as_deref());
    let filter = Filter {
        producto_id: Some(&id),
        bodega_id: filled(query.bodega_id.as_deref()),
        pais: pais.as_deref(),
        with_stock: query.con_stock,
        ..Filter::default()
    };
    page(&api, filter, query.page, query.size).await
}

async fn page(api: &Resources, filter: Filter<'_>, page: Option<u64>, size: Option<u64>) -> ApiResult {
    let started = Instant::now();
    let page = in_range("page", page.unwrap_or(1), 1, 1_000_000)?;
    let size = in_range("size", size.unwrap_or(50), 1, 200)?;
    let (found, total) = inventory::list(&api.database.orm, filter, page - 1, size).await?;
    let items = found.into_iter().map(Lot::from).collect();
    Ok(HttpResponse::Ok().json(StockPage { items, meta: Meta::new(page, size, total, started) }))
}
