//! `inventory`: a row a product, warehouse, country and lot, of the lots that somebody counted. A new product's first
//! lot is no row before that: it is empty, and the product tells the rest of it. SQL by hand: lists have the lots that are
//! no rows, sums are over lots, and the lots of a product or of many are written in one statement.

use chassis::db::sql;
use chrono::NaiveDate;
use rust_decimal::Decimal;
use sea_orm::{
    ConnectionTrait, DbErr, FromQueryResult, Value,
    sqlx::{self, PgConnection},
};

/// Where a new product's first lot is, as its clients expect.
const FIRST_BODEGA: &str = "PRINCIPAL";
const FIRST_PAIS: &str = "CO";

/// A lot with what clients want to know of its product.
#[derive(Clone, Debug, FromQueryResult)]
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

impl Filter<'_> {
    /// Whether first lots that nobody counted are among what is asked for.
    fn has_first_lots(&self) -> bool {
        !self.with_stock && has_every_product(self.bodega_id, self.pais)
    }
}

/// Whether every product has a lot there, be it empty: its first.
pub fn has_every_product(bodega_id: Option<&str>, pais: Option<&str>) -> bool {
    bodega_id.is_none_or(|bodega| bodega == FIRST_BODEGA) && pais.is_none_or(|pais| pais == FIRST_PAIS)
}

/// Lots that somebody counted.
const COUNTED: &str = "
    from inventory i join products p on p.id = i.product_id";

/// Whether the lot `i` is the first of the product `p`.
fn is_first() -> String {
    format!("i.bodega_id = '{FIRST_BODEGA}' and i.pais = '{FIRST_PAIS}' and i.lote = first_lot(p.created_at)")
}

/// All lots. A product is looked at once it is its turn, so that a page costs a page.
fn all() -> String {
    let is_first = is_first();
    format!(
        "
    from products p cross join lateral (
        select i.bodega_id, i.pais, i.lote, i.cantidad, i.fecha_vencimiento
        from inventory i where i.product_id = p.id
        union all
        select '{FIRST_BODEGA}', '{FIRST_PAIS}', first_lot(p.created_at), 0, first_lot_end(p.created_at)
        where not exists (select from inventory i where i.product_id = p.id and {is_first})) i"
    )
}

const OF_PRODUCT: &str = "($2::text is null or p.id = $2) and ($4::text is null or p.proveedor_id = $4)";
const OF_LOT: &str = "($1::text is null or i.bodega_id = $1) and ($3::text is null or i.pais = $3) and (not $5 or i.cantidad > 0)";

/// One page (from 0) by product and lot, and the number of all lots that match.
pub async fn list(
    connection: &impl ConnectionTrait,
    filter: Filter<'_>,
    page: u64,
    size: u64,
) -> Result<(Vec<Stock>, u64), DbErr> {
    let from = if filter.has_first_lots() { all() } else { COUNTED.to_owned() };
    let query = format!(
        "select p.id as producto_id, p.nombre as producto_nombre, p.codigo as producto_codigo, p.categoria,
            p.precio_unitario, i.bodega_id, i.pais, i.lote, i.cantidad, i.fecha_vencimiento,
            p.condiciones_almacenamiento as condiciones, p.stock_minimo, p.stock_critico
        {from} where {OF_PRODUCT} and {OF_LOT}
        order by p.id, i.bodega_id, i.pais, i.lote limit $6 offset $7"
    );
    let text = |value: Option<&str>| Value::from(value.map(str::to_owned));
    let wanted = [
        text(filter.bodega_id),
        text(filter.producto_id),
        text(filter.pais),
        text(filter.proveedor_id),
        filter.with_stock.into(),
    ];
    let page = [(size as i64).into(), (page.saturating_mul(size) as i64).into()];
    let items = sql(query, wanted.iter().cloned().chain(page));
    let items = Stock::find_by_statement(items).all(connection).await?;
    let total = connection.query_one_raw(sql(count(&filter), wanted)).await?;
    let total: i64 = total.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok((items, total.unsigned_abs()))
}

/// First lots are as many as products, without those that somebody counted: they need not be listed to be known.
fn count(filter: &Filter<'_>) -> String {
    let counted = format!("select count(*) {COUNTED} where {OF_PRODUCT} and {OF_LOT}");
    if !filter.has_first_lots() {
        return counted;
    }
    let is_first = is_first();
    format!(
        "select ({counted})
            + (select count(*) from products p where {OF_PRODUCT})
            - (select count(*) {COUNTED} where {OF_PRODUCT} and {is_first})"
    )
}

/// A lot in which nothing is yet: it says that a product may be kept there.
#[derive(Clone, Debug)]
pub struct EmptyLot {
    pub bodega_id: String,
    pub pais: String,
    pub lote: String,
    pub vence: NaiveDate,
}

/// Opens lots of a new product; warehouses that were not known are from now on.
pub async fn open(conn: &mut PgConnection, product_id: &str, lots: &[EmptyLot]) -> sqlx::Result<()> {
    // In one order, so that two of these never wait for each other.
    const BODEGAS: &str = "
        insert into bodegas (id) select distinct id from unnest($1::text[]) as b (id) order by id
        on conflict do nothing";
    const LOTS: &str = "
        insert into inventory (product_id, bodega_id, pais, lote, cantidad, fecha_vencimiento)
        select $1, l.bodega_id, l.pais, l.lote, 0, l.vence
        from unnest($2::text[], $3::text[], $4::text[], $5::date[]) as l (bodega_id, pais, lote, vence)";
    if lots.is_empty() {
        return Ok(());
    }
    let bodegas: Vec<&str> = lots.iter().map(|lot| lot.bodega_id.as_str()).collect();
    sqlx::query(BODEGAS).bind(&bodegas).execute(&mut *conn).await?;
    sqlx::query(LOTS)
        .bind(product_id)
        .bind(&bodegas)
        .bind(lots.iter().map(|lot| lot.pais.as_str()).collect::<Vec<_>>())
        .bind(lots.iter().map(|lot| lot.lote.as_str()).collect::<Vec<_>>())
        .bind(lots.iter().map(|lot| lot.vence).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

/// What there is of a product in a warehouse and a country, over its lots.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Held {
    pub producto_id: String,
    pub bodega_id: String,
    pub codigo: Option<String>,
    pub nombre: Option<String>,
    pub ciudad: Option<String>,
    pub pais: String,
    pub cantidad: i64,
}

/// The stock of a page of products, by product, warehouse and country. First lots that nobody counted are none.
pub async fn held(connection: &impl ConnectionTrait, products: Vec<String>) -> Result<Vec<Held>, DbErr> {
    const QUERY: &str = "
        select i.product_id as producto_id, i.bodega_id, b.codigo, b.nombre, b.ciudad, i.pais, sum(i.cantidad)::bigint as cantidad
        from inventory i left join bodegas b on b.id = i.bodega_id
        where i.product_id = any($1)
        group by i.product_id, i.bodega_id, b.codigo, b.nombre, b.ciudad, i.pais
        order by i.product_id, i.bodega_id, i.pais";
    if products.is_empty() {
        return Ok(Vec::new());
    }
    Held::find_by_statement(sql(QUERY, [products.into()])).all(connection).await
}

/// Deletes all stock of these products.
pub async fn delete_of(conn: &mut PgConnection, products: &[&str]) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        delete from inventory i using unnest($1::text[]) as gone (id) where i.product_id = gone.id";
    sqlx::query(STATEMENT).bind(products).execute(conn).await.map(drop)
}
