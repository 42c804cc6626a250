//! Taking back what an import did, a batch of its changes at a time. SQL by hand: a batch is one statement.

use std::{collections::HashMap, sync::LazyLock};

use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgExecutor};
use uuid::Uuid;

use super::{batch, inventory, ledger::CHANGES_BEFORE, search};
use crate::domain::undo::{Change, Confirmed, Current};

/// The import's last changes before a row of the file, from the last to the first.
pub async fn changes_before(
    executor: impl PgExecutor<'_>,
    import: Uuid,
    before_row: u32,
    size: usize,
) -> sqlx::Result<Vec<Change>> {
    // Changes from before the change log had versions have none: what came of their products is not known.
    let query = format!(
        "select row_number, product_id, coalesce(version, 0), before->>'codigo' from {CHANGES_BEFORE} made"
    );
    let rows: Vec<(i32, String, i64, Option<String>)> = sqlx::query_as(AssertSqlSafe(query))
        .bind(import)
        .bind(i32::try_from(before_row).unwrap_or(i32::MAX))
        .bind(size as i64)
        .fetch_all(executor)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(row, product_id, version, old_codigo)| Change {
            row: row.unsigned_abs(),
            product_id,
            version,
            old_codigo,
        })
        .collect())
}

/// How many changes an import made.
pub async fn count(executor: impl PgExecutor<'_>, import: Uuid) -> sqlx::Result<u64> {
    let count: i64 = sqlx::query_scalar("select count(*) from import_ledger where import_id = $1")
        .bind(import)
        .fetch_one(executor)
        .await?;
    Ok(count.unsigned_abs())
}

/// Whether an import found products to be as its rows say: taken back, it doesn't say so any more.
pub async fn confirms(executor: impl PgExecutor<'_>, import: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from import_unchanged where import_id = $1)")
        .bind(import)
        .fetch_one(executor)
        .await
}

/// The products of changes of an import of `supplier` and those that have their old codes now, held until the transaction
/// ends.
pub async fn current(
    conn: &mut PgConnection,
    supplier: &str,
    import: Uuid,
    changes: &[Change],
) -> sqlx::Result<Vec<Current>> {
    let query = format!(
        "select p.id, p.codigo, p.proveedor_id = $3, {} from products p where p.id = any($1) or p.codigo = any($2) order by p.id for update",
        batch::CONTENT_VERSION
    );
    let ids: Vec<&str> = changes.iter().map(|change| change.product_id.as_str()).collect();
    let codes: Vec<&str> = changes.iter().filter_map(|change| change.old_codigo.as_deref()).collect();
    let rows: Vec<(String, String, bool, i64)> = sqlx::query_as(AssertSqlSafe(query))
        .bind(&ids)
        .bind(codes)
        .bind(supplier)
        .fetch_all(&mut *conn)
        .await?;
    let mut confirmed = confirmed(conn, supplier, import, changes).await?;
    let current = |(id, codigo, is_own, version): (String, String, bool, i64)| {
        let confirmed = confirmed.remove(&id);
        Current { id, codigo, version, is_own, confirmed }
    };
    Ok(rows.into_iter().map(current).collect())
}

/// Of the products of changes of an import, the last other import that found them as they are, of those that nobody
/// takes back. Only its own supplier's imports can have.
///
/// An undo that failed or was cancelled has left its import in force, as far as anybody can tell.
async fn confirmed(
    conn: &mut PgConnection,
    supplier: &str,
    import: Uuid,
    changes: &[Change],
) -> sqlx::Result<HashMap<String, Confirmed>> {
    // The batches are unpacked apart, so that the two lists of ids meet by hash.
    const QUERY: &str = "
        with said as materialized (
            select u.version, i.filename, r.id
            from imports i join import_unchanged u on u.import_id = i.id, unnest(u.product_ids) as r (id)
            where i.proveedor_id = $1 and i.id <> $2 and u.version > $3
                and not exists (select from imports o join jobs j on j.id = o.id
                    where o.undoes = i.id and j.state not in ('failed', 'cancelled'))
        )
        select distinct on (said.id) said.id, said.version, said.filename
        from unnest($4::text[]) as wanted (id) join said using (id)
        order by said.id, said.version desc";
    let ids: Vec<&str> = changes.iter().map(|change| change.product_id.as_str()).collect();
    let oldest = changes.iter().map(|change| change.version).min().unwrap_or_default();
    let rows: Vec<(String, i64, String)> =
        sqlx::query_as(QUERY).bind(supplier).bind(import).bind(oldest).bind(ids).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(id, version, filename)| (id, Confirmed { version, filename })).collect())
}

/// Removes products that the import created, with their inventory, and notes it as the undo's change.
pub async fn remove(
    conn: &mut PgConnection,
    undo: Uuid,
    changes: &[&Change],
    version: i64,
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        with c as materialized (select * from unnest($2::int[], $3::text[]) as c (row_number, product_id)),
        gone as (delete from products p using c where p.id = c.product_id returning c.row_number, p.*)
        insert into import_changes (import_id, row_number, product_id, action, version, before)
        select $1, row_number, id, 'deleted', $4, to_jsonb(gone) - 'row_number' from gone";
    if changes.is_empty() {
        return Ok(());
    }
    let products: Vec<&str> = changes.iter().map(|change| change.product_id.as_str()).collect();
    sqlx::query(STATEMENT)
        .bind(undo)
        .bind(rows(changes))
        .bind(&products)
        .bind(version)
        .execute(&mut *conn)
        .await?;
    search::forget(conn, &products).await?;
    inventory::delete_of(conn, &products).await
}

fn rows(changes: &[&Change]) -> Vec<i32> {
    changes.iter().map(|change| change.row as i32).collect()
}

/// Gives products that the import updated their values back, and notes it as the undo's change. `read` are the row before
/// which [`changes_before`] read the changes, and how many it was asked for.
pub async fn restore(
    conn: &mut PgConnection,
    undo: Uuid,
    import: Uuid,
    (before_row, size): (u32, usize),
    changes: &[&Change],
    version: i64,
) -> sqlx::Result<()> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        let set = batch::values(|name| format!("{name} = r.{name}"), ", ");
        format!(
            "with r as materialized (
                select made.row_number, p.*, {} as content
                from {CHANGES_BEFORE} made, jsonb_populate_record(null::products, made.before) p
                where made.row_number = any($4)
            ),
            logged as (
                insert into import_changes (import_id, row_number, product_id, action, version, before)
                select $5, r.row_number, p.id, 'restored', $6, to_jsonb(p)
                from r join products p on p.id = r.id
            )
            update products p set {set}, version = $6, import_id = $5, updated_at = now(),
                restored_at = $6, restored_version = r.content
            from r where p.id = r.id",
            batch::CONTENT_VERSION
        )
    });
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(AssertSqlSafe(STATEMENT.clone()))
        .bind(import)
        .bind(i32::try_from(before_row).unwrap_or(i32::MAX))
        .bind(size as i64)
        .bind(rows(changes))
        .bind(undo)
        .bind(version)
        .execute(conn)
        .await
        .map(drop)
}
