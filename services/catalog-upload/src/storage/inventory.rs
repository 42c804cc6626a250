//! Stock: a row a product, warehouse, country and lot.

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;
use sea_orm::sqlx::{self, FromRow, PgConnection, PgPool, Row as _, postgres::PgRow};

/// Where a new product's first row of stock is, as its clients expect.
pub(super) const FIRST_BODEGA: &str = "PRINCIPAL";
pub(super) const FIRST_PAIS: &str = "CO";
/// How long the first lot lasts, days.
const FIRST_LIFE: u64 = 365;

/// The lot of which a new product has nothing.
pub(super) struct FirstLot {
    pub name: String,
    pub until: NaiveDate,
}

impl FirstLot {
    /// That of products made on a day.
    pub fn on(day: NaiveDate) -> Self {
        Self {
            name: format!("LOTE_INICIAL_{}", day.format("%Y%m%d")),
            until: day.checked_add_days(Days::new(FIRST_LIFE)).unwrap_or(NaiveDate::MAX),
        }
    }
}

/// A lot with what clients want to know of its product.
#[derive(Clone, Debug)]
pub struct Stock {
    pub producto_id: String,
    pub producto_nombre: String,
    pub producto_codigo: String,
    pub categoria: String,
    pub precio_unitario: Decimal,
    pub bodega_id: String,
    pub pais: String,
    pub lote: String,
    pub cantidad: i64,
    pub fecha_vencimiento: NaiveDate,
    pub condiciones: String,
    pub stock_minimo: i32,
    pub stock_critico: i32,
}

impl FromRow<'_, PgRow> for Stock {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            producto_id: row.try_get("producto_id")?,
            producto_nombre: row.try_get("producto_nombre")?,
            producto_codigo: row.try_get("producto_codigo")?,
            categoria: row.try_get("categoria")?,
            precio_unitario: row.try_get("precio_unitario")?,
            bodega_id: row.try_get("bodega_id")?,
            pais: row.try_get("pais")?,
            lote: row.try_get("lote")?,
            cantidad: row.try_get("cantidad")?,
            fecha_vencimiento: row.try_get("fecha_vencimiento")?,
            condiciones: row.try_get("condiciones")?,
            stock_minimo: row.try_get("stock_minimo")?,
            stock_critico: row.try_get("stock_critico")?,
        })
    }
}

/// Which lots.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    pub bodega_id: Option<&'a str>,
    pub producto_id: Option<&'a str>,
    pub pais: Option<&'a str>,
    pub proveedor_id: Option<&'a str>,
    /// Only lots of which something is left.
    pub with_stock: bool,
}

const FROM: &str = "
    from bodegas b join inventory i on i.bodega_id = b.id join products p on p.id = i.product_id
    where ($1::text is null or b.id = $1) and ($2::text is null or i.product_id = $2)
        and ($3::text is null or i.pais = $3) and ($4::text is null or p.proveedor_id = $4)
        and (not $5 or i.cantidad > 0)";

/// One page (from 0) by product and lot, and the number of all lots that match.
pub async fn list(
    pool: &PgPool,
    filter: Filter<'_>,
    page: u64,
    size: u64,
) -> sqlx::Result<(Vec<Stock>, u64)> {
    let query = format!(
        "select i.product_id as producto_id, p.nombre as producto_nombre, p.codigo as producto_codigo, p.categoria,
            p.precio_unitario, i.bodega_id, i.pais, i.lote, i.cantidad, i.fecha_vencimiento,
            p.condiciones_almacenamiento as condiciones, p.stock_minimo, p.stock_critico
        {FROM}
        order by i.bodega_id, i.product_id, i.pais, i.lote limit $6 offset $7"
    );
    let items = sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(filter.bodega_id)
        .bind(filter.producto_id)
        .bind(filter.pais)
        .bind(filter.proveedor_id)
        .bind(filter.with_stock)
        .bind(size as i64)
        .bind(page.saturating_mul(size) as i64)
        .fetch_all(pool)
        .await?;
    let total: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) {FROM}")))
        .bind(filter.bodega_id)
        .bind(filter.producto_id)
        .bind(filter.pais)
        .bind(filter.proveedor_id)
        .bind(filter.with_stock)
        .fetch_one(pool)
        .await?;
    Ok((items, total.unsigned_abs()))
}

/// Deletes all stock of these products.
pub async fn delete_of(conn: &mut PgConnection, products: &[&str]) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        delete from inventory i using bodegas b, unnest($1::text[]) as gone (id)
        where i.bodega_id = b.id and i.product_id = gone.id";
    sqlx::query(STATEMENT).bind(products).execute(conn).await.map(drop)
}
