//! The words of products, for searches. Imports leave them to the indexer, which follows within seconds:
//! parsing the words of a row costs more than writing the row (ADR 0009). What a person changes one by one is
//! found at once. SQL by hand: PostgreSQL makes the words, of a batch in one statement that skips what others do.

use sea_orm::sqlx::{self, PgConnection, PgPool};
use uuid::Uuid;

use super::{imports, ledger::CHANGES_AFTER};

/// Lower case, without the accents of Spanish; [`super::products`] folds queries alike.
pub(super) const WORDS: &str =
    "to_tsvector('simple', translate(lower(nombre || ' ' || codigo || ' ' || id), 'áéíóúüñ', 'aeiouun'))";

/// Writes the words of one product, in the transaction that changes it.
pub async fn index(conn: &mut PgConnection, product_id: &str) -> sqlx::Result<()> {
    let statement = format!(
        "insert into product_words (product_id, version, words)
        select id, version, {WORDS} from products where id = $1
        on conflict (product_id) do update set version = excluded.version, words = excluded.words"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement)).bind(product_id).execute(conn).await.map(drop)
}

/// Forgets the words of products that are deleted.
pub async fn forget(conn: &mut PgConnection, products: &[&str]) -> sqlx::Result<()> {
    let statement = "delete from product_words where product_id = any($1)";
    sqlx::query(statement).bind(products).execute(conn).await.map(drop)
}

/// Writes the words of up to `size` products of the oldest import that is not done; of those that have ended before those
/// that run, which may have nothing new for long. Gives whether there may be more; not where another process is at it.
pub async fn index_next(pool: &PgPool, size: i64) -> anyhow::Result<bool> {
    // Rows of an import are committed in the order of the file, those of an undo the other way round: it is read
    // once it has ended. Whether one had ended is asked before its rows are read: what came later is seen
    // next time.
    const NEXT: &str = "
        select i.id, i.indexed_row, j.state in ('completed', 'failed', 'cancelled')
        from imports i join jobs j on j.id = i.id
        where not i.indexed and (j.state = 'running' and i.kind = 'import'
            or j.state in ('completed', 'failed', 'cancelled'))
        order by j.state = 'running', i.created_at limit 1 for update of i skip locked";
    let mut transaction = pool.begin().await?;
    let next: Option<(Uuid, i32, bool)> = sqlx::query_as(NEXT).fetch_optional(&mut *transaction).await?;
    let Some((import, after_row, ended)) = next else { return Ok(false) };
    let statement = format!(
        "with changed as materialized (
            select row_number, product_id, before from {CHANGES_AFTER} made
        ), written as (
            insert into product_words (product_id, version, words)
            select id, version, {WORDS} from (
                select p.* from changed c cross join lateral (
                    select * from products p where p.id = c.product_id offset 0) p
                -- Most changes are of a price, and words are dear.
                where c.before is null or c.before->>'nombre' is distinct from p.nombre
                    or c.before->>'codigo' is distinct from p.codigo
                order by p.id) sorted
            on conflict (product_id) do update set version = excluded.version, words = excluded.words
            where product_words.version < excluded.version
        )
        select count(*), max(row_number) from changed"
    );
    let (indexed, last_row): (i64, Option<i32>) = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(import)
        .bind(after_row)
        .bind(size)
        .fetch_one(&mut *transaction)
        .await?;
    let whole = indexed == size;
    imports::indexed(&mut transaction, import, last_row.unwrap_or(after_row), ended && !whole).await?;
    transaction.commit().await?;
    Ok(whole || ended)
}

/// Deletes the words of products that were deleted while the indexer looked at them.
pub async fn forget_strays(pool: &PgPool) -> sqlx::Result<u64> {
    let statement = "
        delete from product_words w where not exists (select from products p where p.id = w.product_id)";
    Ok(sqlx::query(statement).execute(pool).await?.rows_affected())
}

/// Whether an import is at work, which comes first.
pub async fn imports_run(pool: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from jobs where kind = 'catalog.imports' and state = 'running')",
    )
    .fetch_one(pool)
    .await
}
