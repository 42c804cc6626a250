//! What a batch of an import reads of the products and writes to them: few statements, whatever its size.

use std::{fmt::Write as _, pin::pin, sync::LazyLock, task::Poll};

use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, Postgres, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::copy_text::CopyText;
use crate::domain::{ExistingProduct, ProductRow};

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
    VALUES.iter().map(|(name, _)| form(name)).collect::<Vec<_>>().join(separator)
}

/// `r`: the rows that [`bind`] binds, as a table. Parameters go on after [`BOUND`].
static ROWS: LazyLock<String> = LazyLock::new(|| {
    let mut arrays = "$1::int[], $2::text[]".to_owned();
    for (place, (_, kind)) in VALUES.iter().enumerate() {
        // Writing to a String can't fail.
        let _ = write!(arrays, ", ${}::{kind}[]", place + 3);
    }
    let names = values(str::to_owned, ", ");
    format!("unnest({arrays}) as r (row_number, target, {names})")
});

/// How many parameters [`bind`] takes.
const BOUND: usize = VALUES.len() + 2;

/// Binds rows, each with the id of the product that it means.
fn bind<'q>(statement: String, rows: &[(&'q str, &'q ProductRow)]) -> Query<'q, Postgres, PgArguments> {
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

/// The lock of imports. The number has no meaning but to be this lock's own.
const CATALOG_IMPORT: i64 = 0x6c6f_7465_0001;

/// A number above all versions that products had before.
pub async fn next_version(conn: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("select nextval('product_versions')").fetch_one(conn).await
}

/// Makes this transaction the only one that imports into the catalog until it ends. Imports meet at two
/// unique keys (id and code) in the order of their files: without one lock for all, two files with the
/// same products in another order deadlock. Parsing and validating go on beside it. Gives the version of
/// what the transaction writes.
pub async fn begin(conn: &mut PgConnection) -> sqlx::Result<i64> {
    begin_with("pg_advisory_xact_lock", conn).await
}

/// The same, beside others that begin so: who only creates products needs no look at what is there, and hears
/// from the unique constraints where somebody else was quicker.
pub async fn begin_beside_others(conn: &mut PgConnection) -> sqlx::Result<i64> {
    let version = begin_with("pg_advisory_xact_lock_shared", conn).await?;
    // Batches of one file wait for each other, which the server doesn't know: where two imports write the same
    // products, it may not see that they wait for one another.
    sqlx::query("set local lock_timeout = '2s'").execute(conn).await?;
    Ok(version)
}

async fn begin_with(lock: &str, conn: &mut PgConnection) -> sqlx::Result<i64> {
    let query = format!(
        "select nextval('product_versions')
        from (select {lock}($1) as turn offset 0) mine where mine.turn is not null"
    );
    sqlx::query_scalar(AssertSqlSafe(query)).bind(CATALOG_IMPORT).fetch_one(conn).await
}

/// The products that have any of the ids or any of the codes, and whether `import` has written them.
///
/// `offset 0` keeps each look-up apart, so that it is one in an index: of ten thousand keys in one condition
/// the planner makes a scan of the whole table.
pub async fn matching(
    conn: &mut PgConnection,
    ids: &[&str],
    codigos: &[&str],
    import: Uuid,
) -> sqlx::Result<Vec<ExistingProduct>> {
    if ids.is_empty() && codigos.is_empty() {
        return Ok(Vec::new());
    }
    const QUERY: &str = "
        select met.id, met.codigo, met.proveedor_id, met.import_id is not distinct from $3
        from unnest($1::text[]) as wanted (id) cross join lateral (
            select id, codigo, proveedor_id, import_id from products p where p.id = wanted.id offset 0) met
        union
        select met.id, met.codigo, met.proveedor_id, met.import_id is not distinct from $3
        from unnest($2::text[]) as wanted (codigo) cross join lateral (
            select id, codigo, proveedor_id, import_id from products p where p.codigo = wanted.codigo offset 0) met";
    existing(conn, QUERY, ids, codigos, import, "").await
}

/// [`matching`] as the products would be after what the import has planned so far.
pub async fn matching_planned(
    conn: &mut PgConnection,
    ids: &[&str],
    codigos: &[&str],
    import: Uuid,
    proveedor_id: &str,
) -> sqlx::Result<Vec<ExistingProduct>> {
    const QUERY: &str = "
        with wanted as materialized (select * from unnest($1::text[], $2::text[]) as wanted (id, codigo)),
        met as (
            select met.id from wanted cross join lateral (
                select id from products p where p.id = wanted.id offset 0) met
            union
            select met.id from wanted cross join lateral (
                select id from products p where p.codigo = wanted.codigo offset 0) met
            union
            select met.product_id from wanted cross join lateral (
                select product_id from import_plan l
                where l.import_id = $3 and l.product_id = wanted.id offset 0) met
            union
            select met.product_id from wanted cross join lateral (
                select product_id from import_plan l
                where l.import_id = $3 and l.codigo = wanted.codigo offset 0) met
        )
        select met.id, coalesce(plan.codigo, p.codigo), coalesce(p.proveedor_id, $4), plan.product_id is not null
        from met
            left join lateral (select * from products p where p.id = met.id offset 0) p on true
            left join lateral (
                select * from import_plan l where l.import_id = $3 and l.product_id = met.id offset 0) plan on true";
    existing(conn, QUERY, ids, codigos, import, proveedor_id).await
}

async fn existing(
    conn: &mut PgConnection,
    query: &'static str,
    ids: &[&str],
    codigos: &[&str],
    import: Uuid,
    proveedor_id: &str,
) -> sqlx::Result<Vec<ExistingProduct>> {
    let query = sqlx::query_as(query).bind(ids).bind(codigos).bind(import);
    let query = if proveedor_id.is_empty() { query } else { query.bind(proveedor_id) };
    let rows: Vec<(String, String, String, bool)> = query.fetch_all(conn).await?;
    let product = |(id, codigo, proveedor_id, from_this_file)| ExistingProduct {
        id,
        codigo,
        proveedor_id,
        from_this_file,
    };
    Ok(rows.into_iter().map(product).collect())
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

/// Writes rows over existing products of the same supplier, and what they were into the import's change
/// log. A product keeps its id, also where the row met it by its code.
pub async fn update(
    conn: &mut PgConnection,
    import: Uuid,
    updates: &[(&str, &ProductRow)],
    proveedor_id: &str,
    version: i64,
) -> sqlx::Result<()> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        let (rows, set) = (&*ROWS, values(|name| format!("{name} = r.{name}"), ", "));
        let (of, by, at) = (BOUND + 1, BOUND + 2, BOUND + 3);
        format!(
            "with r as materialized (select * from {rows}),
            logged as (
                insert into import_changes (import_id, row_number, product_id, action, version, before)
                select ${of}, r.row_number, p.id, 'updated', ${at}, to_jsonb(p)
                from r join products p on p.id = r.target and p.proveedor_id = ${by}
            )
            update products p set {set}, version = ${at}, import_id = ${of}, updated_at = now()
            from r where p.id = r.target and p.proveedor_id = ${by}"
        )
    });
    if updates.is_empty() {
        return Ok(());
    }
    let statement = bind(STATEMENT.clone(), updates).bind(import).bind(proveedor_id).bind(version);
    let done = statement.execute(conn).await?;
    if done.rows_affected() != updates.len() as u64 {
        // A product was deleted or changed hands between the look-up and this statement: the batch is
        // rolled back and classified anew.
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(())
}

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

/// Notes which columns the updates of a dry run would change.
pub async fn plan_updates(
    conn: &mut PgConnection,
    import: Uuid,
    updates: &[(&str, &ProductRow)],
) -> sqlx::Result<()> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        let changed = |name: &str| format!("case when p.{name} is distinct from r.{name} then '{name}' end");
        let (rows, fields) = (&*ROWS, values(changed, ", "));
        format!(
            "insert into import_plan (import_id, row_number, product_id, codigo, action, fields)
            select ${}, r.row_number, p.id, r.codigo, 'updated', array_remove(array[{fields}], null)
            from {rows} join products p on p.id = r.target",
            BOUND + 1
        )
    });
    if updates.is_empty() {
        return Ok(());
    }
    let done = bind(STATEMENT.clone(), updates).bind(import).execute(conn).await?;
    if done.rows_affected() != updates.len() as u64 {
        // As above: a product is gone since the look-up.
        return Err(sqlx::Error::RowNotFound);
    }
    Ok(())
}

/// Notes the products that a dry run would create.
pub async fn plan_creations(
    conn: &mut PgConnection,
    import: Uuid,
    created: &[&ProductRow],
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        insert into import_plan (import_id, row_number, product_id, codigo, action)
        select $1, row_number, id, codigo, 'created'
        from unnest($2::int[], $3::text[], $4::text[]) as r (row_number, id, codigo)";
    if created.is_empty() {
        return Ok(());
    }
    sqlx::query(STATEMENT)
        .bind(import)
        .bind(created.iter().map(|row| row.row as i32).collect::<Vec<_>>())
        .bind(created.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
        .bind(created.iter().map(|row| row.codigo.as_str()).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}
