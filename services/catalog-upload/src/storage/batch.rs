//! What a batch of an import reads of the products and writes to them. SQL by hand: few statements, whatever its size.

use std::{collections::HashSet, pin::pin, sync::LazyLock, task::Poll};

use chassis::lock;
use sea_orm::sqlx::{
    self, AssertSqlSafe, Connection as _, PgConnection, Postgres, Row as _, postgres::PgArguments,
    query::Query,
};
use tabular::CopyText;
use uuid::Uuid;

use crate::domain::{Column, ExistingProduct, ProductRow};

/// What a row of a file says of a product besides its id, with PostgreSQL's types.
const VALUES: [(&str, &str); 12] = [
    ("codigo", "text"),
    ("nombre", "text"),
    ("categoria", "text"),
    ("presentacion", "text"),
    ("precio_unitario", "numeric"),
    ("certificado_sanitario", "text"),
    ("condiciones_almacenamiento", "text"),
    ("tiempo_entrega_dias", "int"),
    ("stock_minimo", "int"),
    ("stock_critico", "int"),
    ("requiere_lote", "bool"),
    ("requiere_vencimiento", "bool"),
];

/// The columns of [`VALUES`], each as `form` makes it of its name, joined.
pub(super) fn values(form: impl Fn(&str) -> String, separator: &str) -> String {
    values_but(&[], form, separator)
}

/// The same without those that a file lacks: what is there of them stays.
pub(super) fn values_but(absent: &[Column], form: impl Fn(&str) -> String, separator: &str) -> String {
    let wanted = |name: &str| absent.iter().all(|column| column.name() != name);
    let names = VALUES.iter().map(|(name, _)| *name).filter(|name| wanted(name));
    names.map(form).collect::<Vec<_>>().join(separator)
}

/// `r`: the rows that [`bind`] binds, as a table. Parameters go on after [`BOUND`].
pub(super) static ROWS: LazyLock<String> = LazyLock::new(|| rows_and(None));

/// The same with one more array, whose column has a name.
///
/// The arrays are taken apart side by side in the list of columns. In FROM, the server would first write the values of
/// each array into a table of its own (a tuplestore), and read them back row by row.
fn rows_and(more: Option<(&str, &str)>) -> String {
    let own = [("row_number", "int"), ("target", "text")];
    let columns = own.into_iter().chain(VALUES).chain(more).enumerate();
    let arrays: Vec<String> =
        columns.map(|(place, (name, kind))| format!("unnest(${}::{kind}[]) as {name}", place + 1)).collect();
    format!("(select {}) as r", arrays.join(", "))
}

/// How many parameters [`bind`] takes.
pub(super) const BOUND: usize = VALUES.len() + 2;

/// Binds rows, each with the id of the product that it means.
pub(super) fn bind<'q>(
    statement: String,
    rows: &[(&'q str, &'q ProductRow)],
) -> Query<'q, Postgres, PgArguments> {
    fn column<'q, T>(rows: &[(&'q str, &'q ProductRow)], of: impl Fn(&'q ProductRow) -> T) -> Vec<T> {
        rows.iter().map(|(_, row)| of(row)).collect()
    }
    let targets: Vec<&'q str> = rows.iter().map(|(target, _)| *target).collect();
    sqlx::query(AssertSqlSafe(statement))
        .bind(column(rows, |row| row.row as i32))
        .bind(targets)
        .bind(column(rows, |row| row.codigo.as_str()))
        .bind(column(rows, |row| row.nombre.as_str()))
        .bind(column(rows, |row| row.categoria.as_str()))
        .bind(column(rows, |row| row.presentacion.as_deref()))
        .bind(column(rows, |row| row.precio_unitario))
        .bind(column(rows, |row| row.certificado_sanitario.as_str()))
        .bind(column(rows, |row| row.condiciones_almacenamiento.as_str()))
        .bind(column(rows, |row| row.tiempo_entrega_dias))
        .bind(column(rows, |row| row.stock_minimo))
        .bind(column(rows, |row| row.stock_critico))
        .bind(column(rows, |row| row.requiere_lote))
        .bind(column(rows, |row| row.requiere_vencimiento))
}

/// The lock of imports.
const CATALOG_IMPORT: &str = "catalog import";

/// A number above all versions that products had before.
pub async fn next_version(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select nextval('product_versions')").fetch_one(conn).await
}

/// Makes this transaction the only one that imports into the catalog until it ends. Imports meet at two
/// unique keys (id and code) in the order of their files: without one lock for all, two files with the
/// same products in another order deadlock. Parsing, validating and looking up go on beside it.
pub async fn begin(conn: &mut PgConnection) -> sqlx::Result<()> {
    lock::hold(conn, CATALOG_IMPORT).await
}

/// Whether somebody else held a lock for longer than the connection waits (`lock_timeout`).
pub fn is_lock_timeout(error: &sqlx::Error) -> bool {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}

/// The same, beside others that begin so: who only creates products needs no look at what is there, and hears
/// from the unique constraints where somebody else was quicker. Gives the version of what the transaction writes.
pub async fn begin_beside_others(conn: &mut PgConnection) -> sqlx::Result<i64> {
    let query = format!(
        "select nextval('product_versions')
        from (select pg_advisory_xact_lock_shared({key}) as held offset 0) mine where mine.held is not null",
        key = lock::KEY
    );
    let version = sqlx::query_scalar(AssertSqlSafe(query)).bind(CATALOG_IMPORT).fetch_one(&mut *conn).await?;
    // Batches of one file wait for each other, which the server doesn't know: where two imports write the same
    // products, it may not see that they wait for one another.
    sqlx::query("set local lock_timeout = '2s'").execute(conn).await?;
    Ok(version)
}

/// The products that the rows of a batch met.
#[derive(Debug, Default)]
pub struct Met {
    pub products: Vec<ExistingProduct>,
    /// Rows whose product, that of their id or else that of their code, is as they say already.
    pub same: HashSet<u32>,
}

/// Looks up the products that have an id or a code of the rows, whether `import` has written them, and whether they are
/// as the row says; of the `absent` columns a row says nothing.
///
/// `offset 0` keeps each look-up apart, so that it is one in an index: of ten thousand keys in one condition
/// the planner makes a scan of the whole table. The code isn't looked up where the product of the id has it.
pub async fn look_up(
    conn: &mut PgConnection,
    import: Uuid,
    rows: &[&ProductRow],
    absent: &[Column],
) -> sqlx::Result<Met> {
    if rows.is_empty() {
        return Ok(Met::default());
    }
    let same = |product: &str| {
        let form = |name: &str| format!("{product}.{name} is not distinct from r.{name}");
        values_but(absent, form, " and ")
    };
    let (from, writer, by_id, by_code) = (&*ROWS, BOUND + 1, same("i"), same("c"));
    let query = format!(
        "select r.row_number, i.codigo, i.proveedor_id, i.version, i.import_id is not distinct from ${writer},
            c.id, c.proveedor_id, c.version, c.import_id is not distinct from ${writer},
            case when i.id is not null then {by_id} else {by_code} end
        from {from}
            left join lateral (select * from products p where p.id = r.target offset 0) i on true
            left join lateral (
                select * from products p where p.codigo = r.codigo and i.codigo is distinct from r.codigo offset 0
            ) c on true
        where i.id is not null or c.id is not null"
    );
    let targets: Vec<(&str, &ProductRow)> = rows.iter().map(|row| (row.id.as_str(), *row)).collect();
    let found = bind(query, &targets).bind(import).fetch_all(conn).await?;
    let mut met = Met::default();
    for line in found {
        let number = line.try_get::<i32, _>(0)?.unsigned_abs();
        let place = rows.binary_search_by_key(&number, |row| row.row);
        let row =
            rows[place.map_err(|_| sqlx::Error::Protocol(format!("row {number} was not asked for")))?];
        if let Some(codigo) = line.try_get(1)? {
            met.products.push(ExistingProduct {
                id: row.id.clone(),
                codigo,
                proveedor_id: line.try_get(2)?,
                version: line.try_get(3)?,
                from_this_file: line.try_get(4)?,
            });
        }
        if let Some(id) = line.try_get(5)? {
            met.products.push(ExistingProduct {
                id,
                codigo: row.codigo.clone(),
                proveedor_id: line.try_get(6)?,
                version: line.try_get(7)?,
                from_this_file: line.try_get(8)?,
            });
        }
        if line.try_get(9)? {
            met.same.insert(number);
        }
    }
    Ok(met)
}

/// From so many rows on, a COPY is quicker than a statement: it spares the server a third of the work, but takes a
/// round trip more.
const COPIED: usize = 2_000;
/// Rows in a piece of it.
const PIECE: usize = 1_000;
/// What a row of it takes, or so.
const ROW_BYTES: usize = 256;

/// Inserts new products, of an import or (none) of a person.
pub async fn insert(
    conn: &mut PgConnection,
    import: Option<Uuid>,
    products: &[&ProductRow],
    proveedor_id: &str,
    version: i64,
) -> sqlx::Result<()> {
    static COLUMNS: LazyLock<String> =
        LazyLock::new(|| format!("id, {}, proveedor_id, version, import_id", values(str::to_owned, ", ")));
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        let (rows, columns, names) = (&*ROWS, &*COLUMNS, values(str::to_owned, ", "));
        let [by, at, import] = [1, 2, 3].map(|place| format!("${}", BOUND + place));
        format!("insert into products ({columns}) select target, {names}, {by}, {at}, {import} from {rows}")
    });
    let common = Common { import, proveedor_id, version };
    if products.len() >= COPIED {
        return copy(conn, &format!("copy products ({}) from stdin", *COLUMNS), &common, products).await;
    }
    if products.is_empty() {
        return Ok(());
    }
    let rows: Vec<(&str, &ProductRow)> = products.iter().map(|row| (row.id.as_str(), *row)).collect();
    bind(STATEMENT.clone(), &rows)
        .bind(common.proveedor_id)
        .bind(common.version)
        .bind(common.import)
        .execute(conn)
        .await
        .map(drop)
}

/// What the new products of a batch have in common.
struct Common<'a> {
    import: Option<Uuid>,
    proveedor_id: &'a str,
    version: i64,
}

/// Copies new products in. The server works on a piece while the next is made.
///
/// The last piece's sending is polled once and dropped: what the socket does not take at once stays in the
/// connection's buffer, so that the message that ends the COPY leaves together with the last of the data. Sent
/// after them, it waits for the server's delayed acknowledgement, up to 40 ms: sqlx 0.9.0 leaves Nagle's
/// algorithm on (<https://github.com/transact-rs/sqlx/issues/4335>).
async fn copy(
    conn: &mut PgConnection,
    statement: &str,
    common: &Common<'_>,
    products: &[&ProductRow],
) -> sqlx::Result<()> {
    let mut copy = conn.copy_in_raw(statement).await?;
    let mut pieces = products.chunks(PIECE).peekable();
    while let Some(piece) = pieces.next() {
        let rows = copied(common, piece);
        if pieces.peek().is_some() {
            copy.send(rows).await?;
        } else if let Poll::Ready(Err(error)) = futures::poll!(pin!(copy.send(rows))) {
            return Err(error);
        }
    }
    let copied = copy.finish().await?;
    if copied != products.len() as u64 {
        return Err(sqlx::Error::Protocol(format!("{copied} of {} rows were copied", products.len())));
    }
    Ok(())
}

/// The rows of new products as COPY has them.
fn copied(common: &Common<'_>, products: &[&ProductRow]) -> Vec<u8> {
    let mut last = CopyText::default();
    last.text(Some(common.proveedor_id)).value(common.version);
    match common.import {
        Some(import) => last.value(import),
        None => last.text(None),
    };
    let mut rows = CopyText::with_capacity(products.len() * ROW_BYTES);
    for row in products {
        rows.text(Some(&row.id))
            .text(Some(&row.codigo))
            .text(Some(&row.nombre))
            .text(Some(&row.categoria))
            .text(row.presentacion.as_deref())
            .value(row.precio_unitario)
            .text(Some(&row.certificado_sanitario))
            .text(Some(&row.condiciones_almacenamiento))
            .optional(row.tiempo_entrega_dias)
            .value(row.stock_minimo)
            .value(row.stock_critico)
            .value(row.requiere_lote)
            .value(row.requiere_vencimiento)
            .end(&last);
    }
    rows.into_bytes()
}

/// A row that updates a product.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The product. It keeps its id, also where the row met it by its code.
    pub target: &'a str,
    /// The version in which it was looked up.
    pub version: i64,
    pub row: &'a ProductRow,
}

/// Notes in the import's change log what the products are, and writes the rows over them; of the `absent` columns they keep
/// what they have. Gives the version that they have now. None: one of them has changed since it was looked up, and nothing is
/// written.
///
/// They are not held before they are written, which would cost as much as half of the writing: who changes one of them
/// meanwhile gives it another version, so that it is not written here, and then none is. They are found by the index, one by
/// one, and then where they lie: of ten thousand the planner would read the whole table, twice.
pub async fn update(
    conn: &mut PgConnection,
    import: Uuid,
    updates: &[Update<'_>],
    absent: &[Column],
) -> sqlx::Result<Option<i64>> {
    let set = values_but(absent, |name| format!("{name} = r.{name}"), ", ");
    let (before, columns) = (values(|name| format!("p.{name}"), ", "), values(str::to_owned, ", "));
    let log = values(|name| format!("array_agg({name})"), ", ");
    let [of, amount] = [2, 3].map(|place| BOUND + place);
    let rows = rows_and(Some(("seen", "bigint")));
    let statement = format!(
        "with r as materialized (
            select * from {rows}
        ), found as materialized (
            select r.row_number, p.* from r cross join lateral (
                select p.ctid as place, p.id, {CONTENT_VERSION} as version, {before}
                from products p where p.id = r.target and p.version = r.seen offset 0) p
        ), logged as (
            insert into import_updates (import_id, version, first_row, last_row, amount, row_numbers, product_ids,
                versions, {columns})
            select ${of}, nextval('product_versions'), min(row_number), max(row_number), count(*),
                array_agg(row_number), array_agg(id), array_agg(version), {log}
            from (select * from found order by row_number) in_order having count(*) = ${amount}
            returning version
        ), written as (
            update products p set {set}, version = logged.version, import_id = ${of}, updated_at = now()
            from r, logged where p.ctid = any (array(select place from found)) and p.id = r.target and p.version = r.seen
            returning 1
        )
        select logged.version, (select count(*) from written) from logged"
    );
    let targets: Vec<(&str, &ProductRow)> =
        updates.iter().map(|update| (update.target, update.row)).collect();
    let amount = updates.len() as i64;
    let mut savepoint = conn.begin().await?;
    let written = bind(statement, &targets)
        .bind(updates.iter().map(|update| update.version).collect::<Vec<_>>())
        .bind(import)
        .bind(amount)
        .fetch_optional(&mut *savepoint)
        .await?;
    match written {
        Some(row) if row.try_get::<i64, _>(1)? == amount => {
            savepoint.commit().await?;
            Ok(Some(row.try_get(0)?))
        }
        _ => {
            savepoint.rollback().await?;
            Ok(None)
        }
    }
}

/// Of a product `p`: the version whose content it has. Where an undo gave a product back, that is the one that it had
/// before.
pub(super) const CONTENT_VERSION: &str =
    "case when p.restored_at = p.version then p.restored_version else p.version end";

/// Writes a row over the product of its id.
pub async fn overwrite(conn: &mut PgConnection, product: &ProductRow, version: i64) -> sqlx::Result<()> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        let (rows, set) = (&*ROWS, values(|name| format!("{name} = r.{name}"), ", "));
        format!(
            "update products p set {set}, version = ${}, import_id = null, updated_at = now()
            from {rows} where p.id = r.target",
            BOUND + 1
        )
    });
    let row = [(product.id.as_str(), product)];
    bind(STATEMENT.clone(), &row).bind(version).execute(conn).await.map(drop)
}
