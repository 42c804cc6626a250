//! Products: what imports write in batches, and what clients read.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseConnection, DbErr, EntityTrait, Order, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
    sea_query::Expr,
    sqlx::{self, PgConnection},
};
use uuid::Uuid;

use super::copy::CopyRows;
use crate::domain::{ExistingProduct, ProductRow};

/// A product, as it stands in its row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "products")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub codigo: String,
    pub nombre: String,
    pub categoria: String,
    pub presentacion: Option<String>,
    pub precio_unitario: Decimal,
    pub certificado_sanitario: String,
    pub condiciones_almacenamiento: String,
    pub tiempo_entrega_dias: i32,
    pub stock_minimo: i32,
    pub stock_critico: i32,
    pub requiere_lote: bool,
    pub requiere_vencimiento: bool,
    pub proveedor_id: String,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What a list of products is asked for.
#[derive(Debug, Default)]
pub struct Filter {
    /// Words, or beginnings of words, of name, code or id.
    pub words: Option<String>,
    pub categoria: Option<String>,
    pub codigo: Option<String>,
    pub proveedor_id: Option<String>,
}

/// The order of a list; ties are broken by id.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    pub by: Column,
    pub descending: bool,
}

/// One page (from 0) and the number of all products that match.
pub async fn list(
    db: &DatabaseConnection,
    filter: &Filter,
    sort: Sort,
    page: u64,
    size: u64,
) -> Result<(Vec<Model>, u64), DbErr> {
    let mut condition = Condition::all();
    if let Some(query) = filter.words.as_deref().and_then(prefix_query) {
        condition = condition.add(Expr::cust_with_values("words @@ to_tsquery('simple', $1)", [query]));
    }
    for (column, wanted) in [
        (Column::Categoria, &filter.categoria),
        (Column::Codigo, &filter.codigo),
        (Column::ProveedorId, &filter.proveedor_id),
    ] {
        condition = condition.add_option(wanted.as_ref().map(|wanted| column.eq(wanted)));
    }
    let matching = Entity::find().filter(condition);
    let total = matching.clone().count(db).await?;
    let order = if sort.descending { Order::Desc } else { Order::Asc };
    let items = matching
        .order_by(sort.by, order)
        .order_by_asc(Column::Id)
        .offset(page.saturating_mul(size))
        .limit(size)
        .all(db)
        .await?;
    Ok((items, total))
}

/// One product, if there is one of that id.
pub async fn get(db: &DatabaseConnection, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// `Amoxi 500` → `amoxi:* & 500:*`: every word of the query begins a word of the product. Text without
/// a letter or digit asks for nothing.
fn prefix_query(text: &str) -> Option<String> {
    let plain: String = text.to_lowercase().chars().map(without_accent).collect();
    let words: Vec<String> = plain
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(16)
        .map(|word| format!("{word}:*"))
        .collect();
    (!words.is_empty()).then(|| words.join(" & "))
}

/// The same letters that the generated column `words` folds.
const fn without_accent(letter: char) -> char {
    match letter {
        'á' => 'a',
        'é' => 'e',
        'í' => 'i',
        'ó' => 'o',
        'ú' | 'ü' => 'u',
        'ñ' => 'n',
        other => other,
    }
}

/// Makes this transaction the only one that imports into the catalog until it ends. Imports meet at two
/// unique keys (id and code) in the order of their files: without one lock for all, two files with the
/// same products in another order deadlock. Parsing and validating go on beside it.
pub async fn lock_for_import(conn: &mut PgConnection) -> sqlx::Result<()> {
    // The number has no meaning but to be this lock's own.
    const CATALOG_IMPORT: i64 = 0x6c6f_7465_0001;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(CATALOG_IMPORT).execute(conn).await.map(drop)
}

/// The products that have any of the ids or any of the codes, and whether `import` has written them.
pub async fn matching(
    conn: &mut PgConnection,
    ids: &[&str],
    codigos: &[&str],
    import: Uuid,
) -> sqlx::Result<Vec<ExistingProduct>> {
    const QUERY: &str = "
        with met as (
            select id, codigo, proveedor_id from products where id = any($1)
            union
            select id, codigo, proveedor_id from products where codigo = any($2)
        )
        select met.id, met.codigo, met.proveedor_id, c.import_id
        from met left join import_changes c on c.import_id = $3 and c.product_id = met.id";
    let rows: Vec<(String, String, String, Option<Uuid>)> =
        sqlx::query_as(QUERY).bind(ids).bind(codigos).bind(import).fetch_all(conn).await?;
    Ok(rows
        .into_iter()
        .map(|(id, codigo, proveedor_id, last_import)| ExistingProduct {
            id,
            codigo,
            proveedor_id,
            last_import,
        })
        .collect())
}

/// Inserts new products.
pub async fn insert<'a>(
    conn: &mut PgConnection,
    products: impl Iterator<Item = &'a ProductRow>,
    proveedor_id: &str,
) -> sqlx::Result<()> {
    let mut rows = CopyRows::default();
    for product in products {
        rows.text(&product.id)
            .text(&product.codigo)
            .text(&product.nombre)
            .text(&product.categoria)
            .optional(product.presentacion.as_deref())
            .raw(product.precio_unitario)
            .text(&product.certificado_sanitario)
            .text(&product.condiciones_almacenamiento)
            .raw(product.tiempo_entrega_dias)
            .raw(product.stock_minimo)
            .raw(product.stock_critico)
            .raw(product.requiere_lote)
            .raw(product.requiere_vencimiento)
            .text(proveedor_id)
            .end_row();
    }
    const TARGET: &str = "products (id, codigo, nombre, categoria, presentacion, precio_unitario, \
        certificado_sanitario, condiciones_almacenamiento, tiempo_entrega_dias, stock_minimo, stock_critico, \
        requiere_lote, requiere_vencimiento, proveedor_id)";
    rows.send(conn, TARGET).await
}

/// Writes rows over existing products of the same supplier. A product keeps its id, also
/// where the row met it by its code.
pub async fn update(
    conn: &mut PgConnection,
    updates: &[(&str, &ProductRow)],
    proveedor_id: &str,
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        update products p set
            codigo = r.codigo, nombre = r.nombre, categoria = r.categoria, presentacion = r.presentacion,
            precio_unitario = r.precio_unitario, certificado_sanitario = r.certificado_sanitario,
            condiciones_almacenamiento = r.condiciones_almacenamiento,
            tiempo_entrega_dias = r.tiempo_entrega_dias, stock_minimo = r.stock_minimo,
            stock_critico = r.stock_critico, requiere_lote = r.requiere_lote,
            requiere_vencimiento = r.requiere_vencimiento,
            version = p.version + 1, updated_at = now()
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::text[],
            $8::text[], $9::int[], $10::int[], $11::int[], $12::bool[], $13::bool[])
            as r (target, codigo, nombre, categoria, presentacion, precio_unitario, certificado_sanitario,
                condiciones_almacenamiento, tiempo_entrega_dias, stock_minimo, stock_critico, requiere_lote,
                requiere_vencimiento)
        where p.id = r.target and p.proveedor_id = $14";
    if updates.is_empty() {
        return Ok(());
    }
    fn column<'a, T>(updates: &[(&'a str, &'a ProductRow)], of: impl Fn(&'a ProductRow) -> T) -> Vec<T> {
        updates.iter().map(|(_, row)| of(row)).collect()
    }
    let targets: Vec<&str> = updates.iter().map(|(target, _)| *target).collect();
    let done = sqlx::query(STATEMENT)
        .bind(targets)
        .bind(column(updates, |row| row.codigo.as_str()))
        .bind(column(updates, |row| row.nombre.as_str()))
        .bind(column(updates, |row| row.categoria.as_str()))
        .bind(column(updates, |row| row.presentacion.as_deref()))
        .bind(column(updates, |row| row.precio_unitario))
        .bind(column(updates, |row| row.certificado_sanitario.as_str()))
        .bind(column(updates, |row| row.condiciones_almacenamiento.as_str()))
        .bind(column(updates, |row| row.tiempo_entrega_dias))
        .bind(column(updates, |row| row.stock_minimo))
        .bind(column(updates, |row| row.stock_critico))
        .bind(column(updates, |row| row.requiere_lote))
        .bind(column(updates, |row| row.requiere_vencimiento))
        .bind(proveedor_id)
        .execute(conn)
        .await?;
    if done.rows_affected() != updates.len() as u64 {
        // A product was deleted or changed hands between the look-up and this statement: the batch is
        // rolled back and classified anew.
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::prefix_query;

    #[test]
    fn a_search_is_prefixes_of_plain_words() {
        assert_eq!(prefix_query("Amoxicilína  500-mg").as_deref(), Some("amoxicilina:* & 500:* & mg:*"));
        assert_eq!(prefix_query("a & b | !c:* '"), Some("a:* & b:* & c:*".to_owned()));
        assert_eq!(prefix_query(" -- "), None);
    }
}
