//! Products as clients read them and change them one by one.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseConnection, DbErr, EntityTrait, Order, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
    sea_query::{Expr, NullOrdering},
    sqlx::{self, FromRow, PgConnection, Row as _, postgres::PgRow},
};

use super::{
    batch,
    inventory::{self, EmptyLot},
    search,
};
use crate::domain::ProductRow;

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
    /// Not known of some products that people made one by one.
    pub tiempo_entrega_dias: Option<i32>,
    pub stock_minimo: i32,
    pub stock_critico: i32,
    pub requiere_lote: bool,
    pub requiere_vencimiento: bool,
    pub proveedor_id: String,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Model {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            codigo: row.try_get("codigo")?,
            nombre: row.try_get("nombre")?,
            categoria: row.try_get("categoria")?,
            presentacion: row.try_get("presentacion")?,
            precio_unitario: row.try_get("precio_unitario")?,
            certificado_sanitario: row.try_get("certificado_sanitario")?,
            condiciones_almacenamiento: row.try_get("condiciones_almacenamiento")?,
            tiempo_entrega_dias: row.try_get("tiempo_entrega_dias")?,
            stock_minimo: row.try_get("stock_minimo")?,
            stock_critico: row.try_get("stock_critico")?,
            requiere_lote: row.try_get("requiere_lote")?,
            requiere_vencimiento: row.try_get("requiere_vencimiento")?,
            proveedor_id: row.try_get("proveedor_id")?,
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
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
    /// With a lot, be it empty, in this country.
    pub pais: Option<String>,
    /// With a lot, be it empty, in this warehouse; in one of this country, where both are asked for.
    pub bodega_id: Option<String>,
}

/// The order of a list; ties are broken by id.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    pub by: By,
    pub descending: bool,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Column(Column),
    /// How well the words match: the product of that code or id first. Without words, by id.
    Relevance,
    /// All that is in stock of a product, over its lots.
    Quantity,
    /// When the first of its lots expires. Products without a lot come last in either direction.
    Expiry,
}

/// Both are read from the index `inventory_product` alone.
const QUANTITY: &str =
    "(select coalesce(sum(i.cantidad), 0) from inventory i where i.product_id = products.id)";
const EXPIRY: &str = "(select min(i.fecha_vencimiento) from inventory i where i.product_id = products.id)";
const EXACT: &str = "(products.codigo = $1 or products.id = $2)";
const RANK: &str = "(select ts_rank(w.words, to_tsquery('simple', $1)) from product_words w
    where w.product_id = products.id)";

const IN_PAIS: &str = "id in (select product_id from inventory where pais = $1)";
const IN_BODEGA: &str = "id in (select product_id from inventory where bodega_id = $1)";
const IN_BODEGA_OF_PAIS: &str = "id in (select product_id from inventory where bodega_id = $1 and pais = $2)";

const MATCHES: &str = "id in (select product_id from product_words where words @@ to_tsquery('simple', $1))";

/// One page (from 0) and the number of all products that match.
pub async fn list(
    db: &DatabaseConnection,
    filter: &Filter,
    sort: Sort,
    page: u64,
    size: u64,
) -> Result<(Vec<Model>, u64), DbErr> {
    let mut condition = Condition::all();
    let words = filter.words.as_deref().and_then(prefix_query);
    if let Some(query) = &words {
        condition = condition.add(Expr::cust_with_values(MATCHES, [query.as_str()]));
    }
    let place = match (&filter.bodega_id, &filter.pais) {
        (None, None) => None,
        (Some(bodega), None) => Some(Expr::cust_with_values(IN_BODEGA, [bodega.as_str()])),
        (None, Some(pais)) => Some(Expr::cust_with_values(IN_PAIS, [pais.as_str()])),
        (Some(bodega), Some(pais)) => {
            Some(Expr::cust_with_values(IN_BODEGA_OF_PAIS, [bodega.as_str(), pais.as_str()]))
        }
    };
    condition = condition.add_option(place);
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
    let ordered = match sort.by {
        By::Column(column) => matching.order_by(column, order),
        By::Quantity => matching.order_by(Expr::cust(QUANTITY), order),
        By::Expiry => matching.order_by_with_nulls(Expr::cust(EXPIRY), order, NullOrdering::Last),
        By::Relevance => match (filter.words.as_deref().map(str::trim), words) {
            (Some(text), Some(query)) => matching
                .order_by(Expr::cust_with_values(EXACT, [text, text]), order.clone())
                .order_by(Expr::cust_with_values(RANK, [query]), order),
            _ => matching,
        },
    };
    let items =
        ordered.order_by_asc(Column::Id).offset(page.saturating_mul(size)).limit(size).all(db).await?;
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

/// The same letters that the index of words folds.
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

/// What a change by a person met.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// There is no such product, or it is another supplier's.
    #[error("no such product")]
    NotFound,
    /// Another product has this id or code.
    #[error("the {0} is taken")]
    Taken(&'static str),
    /// The product changed since the caller read it.
    #[error("the product is at version {0}")]
    Changed(i64),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl EditError {
    fn of(error: sqlx::Error) -> Self {
        let constraint = error.as_database_error().and_then(|error| error.constraint()).map(str::to_owned);
        match constraint.as_deref() {
            Some("products_pkey") => Self::Taken("ID"),
            Some("products_codigo_key") => Self::Taken("Código"),
            _ => Self::Database(error),
        }
    }
}

/// The columns of [`Model`].
const COLUMNS: &str = "id, codigo, nombre, categoria, presentacion, precio_unitario, certificado_sanitario, \
    condiciones_almacenamiento, tiempo_entrega_dias, stock_minimo, stock_critico, requiere_lote, \
    requiere_vencimiento, proveedor_id, version, created_at, updated_at";

/// A new product with lots in which nothing is yet, in the caller's transaction.
///
/// # Errors
/// [`EditError::Taken`]; the database.
pub async fn create(
    conn: &mut PgConnection,
    product: &ProductRow,
    proveedor_id: &str,
    lots: &[EmptyLot],
    actor: &str,
) -> Result<Model, EditError> {
    let version = batch::next_version(conn).await?;
    batch::insert(conn, None, &[product], proveedor_id, version).await.map_err(EditError::of)?;
    inventory::open(conn, &product.id, lots).await?;
    search::index(conn, &product.id).await?;
    record_edit(conn, &product.id, version, "created", None, actor).await?;
    read(conn, &product.id).await
}

/// A product that the caller's transaction holds: as it is, and as the change log keeps it.
pub struct Held {
    pub model: Model,
    before: serde_json::Value,
}

/// Holds a product until the caller's transaction ends, if it still has the version that the caller read (any,
/// where they name none).
///
/// # Errors
/// All of [`EditError`] but `Taken`.
pub async fn hold(conn: &mut PgConnection, id: &str, expected: Option<i64>) -> Result<Held, EditError> {
    let before = lock(conn, id, expected).await?;
    Ok(Held { model: read(conn, id).await?, before })
}

/// Writes other values over a product that is held.
///
/// # Errors
/// [`EditError::Taken`]; the database.
pub async fn replace(
    conn: &mut PgConnection,
    held: Held,
    product: &ProductRow,
    actor: &str,
) -> Result<Model, EditError> {
    let Held { before, .. } = held;
    let version = batch::next_version(conn).await?;
    batch::overwrite(conn, product, version).await.map_err(EditError::of)?;
    search::index(conn, &product.id).await?;
    record_edit(conn, &product.id, version, "updated", Some(before), actor).await?;
    read(conn, &product.id).await
}

/// Deletes a product with its inventory, if it has the version of [`hold`]. Gives the version of the deletion.
///
/// # Errors
/// All of [`EditError`] but `Taken`.
pub async fn delete(
    conn: &mut PgConnection,
    id: &str,
    expected: Option<i64>,
    actor: &str,
) -> Result<i64, EditError> {
    let before = lock(conn, id, expected).await?;
    let version = batch::next_version(conn).await?;
    sqlx::query("delete from products where id = $1").bind(id).execute(&mut *conn).await?;
    inventory::delete_of(conn, &[id]).await?;
    search::forget(conn, &[id]).await?;
    record_edit(conn, id, version, "deleted", Some(before), actor).await?;
    Ok(version)
}

/// Holds the product until the transaction ends; gives it as the change log keeps it.
async fn lock(
    conn: &mut PgConnection,
    id: &str,
    expected: Option<i64>,
) -> Result<serde_json::Value, EditError> {
    let query = "select version, to_jsonb(p) from products p where id = $1 for update";
    let found: Option<(i64, serde_json::Value)> = sqlx::query_as(query).bind(id).fetch_optional(conn).await?;
    match found {
        None => Err(EditError::NotFound),
        Some((version, _)) if expected.is_some_and(|expected| expected != version) => {
            Err(EditError::Changed(version))
        }
        Some((_, before)) => Ok(before),
    }
}

async fn read(conn: &mut PgConnection, id: &str) -> Result<Model, EditError> {
    let query = format!("select {COLUMNS} from products where id = $1");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_one(conn).await?)
}

async fn record_edit(
    conn: &mut PgConnection,
    product_id: &str,
    version: i64,
    action: &str,
    before: Option<serde_json::Value>,
    actor: &str,
) -> sqlx::Result<()> {
    let statement = "insert into product_edits (product_id, version, action, before, actor)
        values ($1, $2, $3, $4, $5)";
    sqlx::query(statement)
        .bind(product_id)
        .bind(version)
        .bind(action)
        .bind(before)
        .bind(actor)
        .execute(conn)
        .await
        .map(drop)
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
