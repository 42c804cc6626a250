//! The catalog as its clients read it.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Json, Query, Versioned, etag, in_range},
};
use chrono::Utc;
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Resources,
    access::{READ, may_write, of_supplier, supplier},
    country, filled,
    product_form::{InitialLot, NewProduct, Values, edit_problem, no_product},
};
use crate::{
    changes::{Change, publish_changes},
    storage::{
        inventory::{self, Held},
        products::{self, By, Column, Filter, Model, Sort},
    },
};

/// Un producto.
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
    /// `null` si no se conoce, como los dos que siguen.
    requisitos_almacenamiento: Option<String>,
    certificado_sanitario: Option<String>,
    tiempo_entrega_dias: Option<i32>,
    proveedor_id: String,
    stock_minimo: i32,
    stock_critico: i32,
    requiere_lote: bool,
    requiere_vencimiento: bool,
}

/// Un producto recién creado.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Created {
    #[serde(flatten)]
    product: Product,
    /// Sus lotes, si se le dieron.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bodegas_iniciales: Vec<InitialLot>,
}

/// Un producto de una lista.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    #[serde(flatten)]
    product: Product,
    /// `null` si el producto no tiene lotes.
    inventario_resumen: Option<StockSummary>,
}

/// Todo lo que hay de un producto.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct StockSummary {
    cantidad_total: i64,
    /// Cada uno una vez, en orden.
    paises: BTreeSet<String>,
    /// Por id y país.
    bodegas: Vec<BodegaStock>,
}

/// Todo lo que hay de un producto en una bodega.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BodegaStock {
    id: String,
    /// El id si no tiene otro código.
    codigo: String,
    /// El id si no tiene nombre.
    nombre: String,
    ciudad: Option<String>,
    pais: String,
    cantidad: i64,
}

impl StockSummary {
    fn add(&mut self, held: Held) {
        self.cantidad_total = self.cantidad_total.saturating_add(held.cantidad);
        self.paises.insert(held.pais.clone());
        self.bodegas.push(BodegaStock {
            codigo: held.codigo.unwrap_or_else(|| held.bodega_id.clone()),
            nombre: held.nombre.unwrap_or_else(|| held.bodega_id.clone()),
            id: held.bodega_id,
            ciudad: held.ciudad,
            pais: held.pais,
            cantidad: held.cantidad,
        });
    }
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
            requisitos_almacenamiento: known(model.condiciones_almacenamiento),
            certificado_sanitario: known(model.certificado_sanitario),
            tiempo_entrega_dias: model.tiempo_entrega_dias,
            proveedor_id: model.proveedor_id,
            stock_minimo: model.stock_minimo,
            stock_critico: model.stock_critico,
            requiere_lote: model.requiere_lote,
            requiere_vencimiento: model.requiere_vencimiento,
        }
    }
}

/// A text of the product's row; what is not known is empty there.
fn known(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListQuery {
    /// Palabras, o comienzos de palabras, del nombre, el código o el id; sin distinguir acentos ni
    /// mayúsculas.
    q: Option<String>,
    categoria_id: Option<String>,
    /// Otra forma de escribir `categoriaId`.
    category: Option<String>,
    /// Se acepta sin efecto: hay clientes que lo envían junto a `categoriaId`.
    #[serde(rename = "categoria")]
    _categoria: Option<String>,
    codigo: Option<String>,
    /// Productos con un lote en este país (`CO`, `PE`, …).
    pais: Option<String>,
    /// Productos con un lote en esta bodega.
    bodega_id: Option<String>,
    /// Otra forma de escribir `bodegaId`.
    #[serde(rename = "bodega_id")]
    bodega: Option<String>,
    proveedor_id: Option<String>,
    /// Desde 1.
    #[param(minimum = 1)]
    page: Option<u64>,
    /// Productos por página, de 1 a 50.
    #[param(minimum = 1, maximum = 50)]
    size: Option<u64>,
    /// `id`, `nombre`, `codigo`, `precio`, `categoria`, `actualizado`, `relevancia` (primero lo que mejor
    /// coincide), `cantidad` (primero lo que más hay), `vencimiento` (primero lo que antes vence; sin lotes,
    /// al final); un `-` delante lo invierte.
    sort: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProductPage {
    items: Vec<Listed>,
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
    operation_id = "products_list", summary = "Listar productos",
    description = "Con filtros, orden y páginas numeradas.",
    get, path = "/api/v1/catalog/items", tag = "catalog", params(ListQuery),
    responses((status = 200, body = ProductPage))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller, query: Query<ListQuery>) -> ApiResult {
    let started = Instant::now();
    caller.require_scope(READ)?;
    let query = query.into_inner();
    let proveedor_id = of_supplier(&caller, filled(query.proveedor_id.as_deref()), "los productos")?;
    let page = in_range("page", query.page.unwrap_or(1), 1, 1_000_000)?;
    let size = in_range("size", query.size.unwrap_or(20), 1, 50)?;
    let sort = parse_sort(query.sort.as_deref().filter(|sort| !sort.is_empty()).unwrap_or("id"))?;
    let given = |text: &Option<String>| filled(text.as_deref()).map(str::to_owned);
    let filter = Filter {
        words: given(&query.q),
        categoria: given(&query.categoria_id).or_else(|| given(&query.category)),
        codigo: given(&query.codigo),
        proveedor_id: proveedor_id.map(str::to_owned),
        pais: country(query.pais.as_deref()),
        bodega_id: given(&query.bodega_id).or_else(|| given(&query.bodega)),
    };
    let (found, total) = products::list(&api.database.orm, &filter, sort, page - 1, size).await?;
    let ids: Vec<String> = found.iter().map(|model| model.id.clone()).collect();
    let mut stock: HashMap<String, StockSummary> = HashMap::new();
    for held in inventory::held(&api.database.orm, ids).await? {
        stock.entry(held.producto_id.clone()).or_default().add(held);
    }
    let listed = |model: Model| {
        let inventario_resumen = stock.remove(&model.id);
        Listed { product: Product::from(model), inventario_resumen }
    };
    let items = found.into_iter().map(listed).collect();
    Ok(HttpResponse::Ok().json(ProductPage { items, meta: Meta::new(page, size, total, started) }))
}

fn parse_sort(text: &str) -> Result<Sort, Problem> {
    let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    let by = match name {
        "id" => By::Column(Column::Id),
        "nombre" => By::Column(Column::Nombre),
        "codigo" => By::Column(Column::Codigo),
        "precio" => By::Column(Column::PrecioUnitario),
        "categoria" => By::Column(Column::Categoria),
        "actualizado" => By::Column(Column::UpdatedAt),
        "vencimiento" => By::Expiry,
        // Of these, more comes first.
        "relevancia" => return Ok(Sort { by: By::Relevance, descending: !descending }),
        "cantidad" => return Ok(Sort { by: By::Quantity, descending: !descending }),
        _ => {
            let detail = format!(
                "sort {text:?} inválido; se espera id, nombre, codigo, precio, categoria, actualizado, relevancia, cantidad o vencimiento"
            );
            return Err(Problem::bad_request("invalid_sort", detail));
        }
    };
    Ok(Sort { by, descending })
}

/// The product, with its version as `ETag`.
fn shown(model: Model) -> HttpResponse {
    HttpResponse::Ok().insert_header(etag(model.version)).json(Product::from(model))
}

/// One product.
#[utoipa::path(
    operation_id = "products_get", summary = "Ver un producto",
    description = "El ETag es su versión.",
    get, path = "/api/v1/catalog/items/{id}", tag = "catalog", params(("id" = String, Path)),
    responses((status = 200, body = Product))
)]
pub(super) async fn get(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    caller.require_scope(READ)?;
    Ok(shown(visible(&api, &caller, &id).await?))
}

/// The product, if it is the caller's to see.
pub(super) async fn visible(api: &Resources, caller: &Caller, id: &str) -> Result<Model, Problem> {
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

fn acts_for(caller: &Caller, proveedor_id: &str) -> Result<(), Problem> {
    if caller.may_act_for(proveedor_id) {
        Ok(())
    } else {
        Err(Problem::forbidden(format!("No puede cambiar productos del proveedor {proveedor_id}")))
    }
}

/// A new product, as the product form sends it: under the rules of a workbook's row, but for
/// `certificadoSanitario`, `requisitosAlmacenamiento` and `tiempoEntregaDias`, which may be left out.
#[utoipa::path(
    operation_id = "products_create", summary = "Crear un producto",
    description = "Con las reglas de una fila del archivo, salvo que `certificadoSanitario`, `requisitosAlmacenamiento` y `tiempoEntregaDias` pueden faltar.",
    post, path = "/api/v1/catalog/items", tag = "catalog", request_body = NewProduct,
    responses(
        (status = 201, body = Created), (status = 409, description = "El ID o el Código ya existe"),
        (status = 422, description = "Un valor no cumple las reglas"),
    )
)]
pub(super) async fn create(api: Data<Resources>, caller: Caller, body: Json<NewProduct>) -> ApiResult {
    may_write(&caller)?;
    let body = body.into_inner();
    let named = filled(body.proveedor_id.as_deref());
    let proveedor_id = supplier(named.or(caller.proveedor_id()))?.to_owned();
    acts_for(&caller, &proveedor_id)?;
    let lots = body.bodegas_iniciales.as_deref().unwrap_or_default();
    let lots = InitialLot::check_all(lots, Utc::now().date_naive())?;
    let row = body.check()?;
    let mut transaction = api.database.pool.begin().await?;
    let created = products::create(&mut transaction, &row, &proveedor_id, &lots, caller.id()).await;
    let model = created.map_err(|error| edit_problem(error, &row.id, &row.codigo))?;
    let change = std::iter::once((row.id.as_str(), Change::Created));
    publish_changes(&mut transaction, &proveedor_id, "", model.version, change).await?;
    transaction.commit().await?;
    let tag = etag(model.version);
    let bodegas_iniciales = lots.iter().map(InitialLot::from).collect();
    let created = Created { product: Product::from(model), bodegas_iniciales };
    Ok(HttpResponse::Created().insert_header(tag).json(created))
}

/// Other values for a product: any of its fields. What is left out stays, as do its id and supplier; an explicit
/// `null` empties a field that may be empty, and sets one that has a default to it.
#[utoipa::path(
    operation_id = "products_update", summary = "Cambiar un producto",
    description = "Cualquiera de sus campos. Lo que falta queda como está; un `null` vacía un campo que puede estar vacío y devuelve a los demás su valor por defecto.",
    put, path = "/api/v1/catalog/items/{id}", tag = "catalog",
    params(Versioned),
    request_body = Values,
    responses(
        (status = 200, body = Product), (status = 409, description = "El Código ya existe"),
        (status = 412, description = "El producto cambió"),
        (status = 422, description = "Un valor no cumple las reglas"),
    )
)]
pub(super) async fn replace(
    api: Data<Resources>,
    caller: Caller,
    target: Versioned,
    body: Json<Values>,
) -> ApiResult {
    let Versioned { id, expected } = target;
    let proveedor_id = changeable(&api, &caller, &id).await?;
    let mut transaction = api.database.pool.begin().await?;
    let held = products::hold(&mut transaction, &id, &proveedor_id, expected.0).await;
    let held = held.map_err(|error| edit_problem(error, &id, ""))?;
    let row = body.into_inner().change(&held.model)?;
    let replaced = products::replace(&mut transaction, held, &row, caller.id()).await;
    let model = replaced.map_err(|error| edit_problem(error, &row.id, &row.codigo))?;
    let change = std::iter::once((row.id.as_str(), Change::Updated));
    publish_changes(&mut transaction, &proveedor_id, "", model.version, change).await?;
    transaction.commit().await?;
    Ok(shown(model))
}

/// Deletes a product with its inventory.
#[utoipa::path(
    operation_id = "products_delete", summary = "Eliminar un producto",
    description = "Con su inventario.",
    delete, path = "/api/v1/catalog/items/{id}", tag = "catalog",
    params(Versioned),
    responses((status = 204), (status = 412, description = "El producto cambió"))
)]
pub(super) async fn delete(api: Data<Resources>, caller: Caller, target: Versioned) -> ApiResult {
    let Versioned { id, expected } = target;
    let proveedor_id = changeable(&api, &caller, &id).await?;
    let mut transaction = api.database.pool.begin().await?;
    let deleted = products::delete(&mut transaction, &id, &proveedor_id, expected.0, caller.id()).await;
    let version = deleted.map_err(|error| edit_problem(error, &id, ""))?;
    let change = std::iter::once((id.as_str(), Change::Deleted));
    publish_changes(&mut transaction, &proveedor_id, "", version, change).await?;
    transaction.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
