//! `products`: as clients read them and change them one by one. SQL by hand where one is read for the change log, which
//! keeps the whole row, and in what lists are filtered and ordered by.

use chassis::db::{NoRelation as Relation, Orm, columns, sql};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sea_orm::{
    Condition, DatabaseConnection, FromQueryResult, Order, PaginatorTrait as _, QueryOrder as _,
    QuerySelect as _,
    entity::prelude::*,
    sea_query::NullOrdering,
    sqlx::{self, PgConnection},
};
use tabular::without_accent;

use super::{
    batch,
    edits::{self, Action},
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
    /// The import that wrote it last; none after a change by a person.
    pub import_id: Option<Uuid>,
    /// As long as `version` is `restored_at`, its content is that of `restored_version`: an undo gave it back.
    pub restored_at: Option<i64>,
    pub restored_version: Option<i64>,
}

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
        (bodega, pais) if inventory::has_every_product(bodega.as_deref(), pais.as_deref()) => None,
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
pub async fn get(db: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// `Amoxi 500` → `amoxi:* & 500:*`: every word of the query begins a word of the product. Text without
/// a letter or digit asks for nothing.
fn prefix_query(text: &str) -> Option<String> {
    // The same letters that the index of words folds.
    let plain: String = text.to_lowercase().chars().map(without_accent).collect();
    let words: Vec<String> = plain
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(16)
        .map(|word| format!("{word}:*"))
        .collect();
    (!words.is_empty()).then(|| words.join(" & "))
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
    #[error(transparent)]
    Entity(#[from] DbErr),
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
    edits::record(conn, &product.id, version, Action::Created, None, actor).await?;
    read(conn, &product.id).await
}

/// A product that the caller's transaction holds: as it is, and as the change log keeps it.
#[derive(FromQueryResult)]
pub struct Held {
    #[sea_orm(nested)]
    pub model: Model,
    before: Json,
}

/// Holds a product of a supplier until the caller's transaction ends, if it still has the version that the caller read (any,
/// where they name none).
///
/// # Errors
/// All of [`EditError`] but `Taken`.
pub async fn hold(
    conn: &mut PgConnection,
    id: &str,
    proveedor_id: &str,
    expected: Option<i64>,
) -> Result<Held, EditError> {
    // Whoever looked whose it is did so before: since then it may have been deleted and made by somebody else.
    let query = format!(
        "select {columns}, to_jsonb(p) as before from products p where p.id = $1 and p.proveedor_id = $2 for update",
        columns = columns::<Entity>("p")
    );
    let query = sql(query, [id.into(), proveedor_id.into()]);
    let held = Held::find_by_statement(query).one(&Orm::on(conn)).await?;
    let held = held.ok_or(EditError::NotFound)?;
    match expected {
        Some(expected) if expected != held.model.version => Err(EditError::Changed(held.model.version)),
        _ => Ok(held),
    }
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
    edits::record(conn, &product.id, version, Action::Updated, Some(before), actor).await?;
    read(conn, &product.id).await
}

/// Deletes a product of a supplier with its inventory, if it has the version of [`hold`]. Gives the version of the deletion.
///
/// # Errors
/// All of [`EditError`] but `Taken`.
pub async fn delete(
    conn: &mut PgConnection,
    id: &str,
    proveedor_id: &str,
    expected: Option<i64>,
    actor: &str,
) -> Result<i64, EditError> {
    let Held { before, .. } = hold(conn, id, proveedor_id, expected).await?;
    let version = batch::next_version(conn).await?;
    Entity::delete_by_id(id).exec(&Orm::on(conn)).await?;
    inventory::delete_of(conn, &[id]).await?;
    search::forget(conn, &[id]).await?;
    edits::record(conn, id, version, Action::Deleted, Some(before), actor).await?;
    Ok(version)
}

async fn read(conn: &mut PgConnection, id: &str) -> Result<Model, EditError> {
    let product = get(&Orm::on(conn), id).await?;
    Ok(product.ok_or_else(|| DbErr::RecordNotFound(format!("product {id}")))?)
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
