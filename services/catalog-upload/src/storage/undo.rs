//! Taking back what an import did, a batch of its changes at a time. SQL by hand: a batch is one statement.

use std::sync::LazyLock;

use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgExecutor};
use uuid::Uuid;

use super::{batch, inventory, ledger::CHANGES_BEFORE, search};
use crate::domain::undo::{Change, Current};

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

/// The products of the changes and those that have their old codes now, held until the transaction ends.
pub async fn current(conn: &mut PgConnection, changes: &[Change]) -> sqlx::Result<Vec<Current>> {
    let query = format!(
        "select p.id, p.codigo, {} from products p where p.id = any($1) or p.codigo = any($2) order by p.id for update",
        batch::CONTENT_VERSION
    );
    let ids: Vec<&str> = changes.iter().map(|change| change.product_id.as_str()).collect();
    let codes: Vec<&str> = changes.iter().filter_map(|change| change.old_codigo.as_deref()).collect();
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as(AssertSqlSafe(query)).bind(ids).bind(codes).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(id, codigo, version)| Current { id, codigo, version }).collect())
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
