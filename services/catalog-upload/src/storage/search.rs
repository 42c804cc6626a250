//! The words of products, for searches. Imports leave them to the indexer, which follows within seconds:
//! parsing the words of a row costs more than writing the row (ADR 0009). What a person changes one by one is
//! found at once.

use sea_orm::sqlx::{self, PgConnection, PgPool};

use super::batch;

/// Lower case, without the accents of Spanish; [`super::products`] folds queries alike.
const WORDS: &str =
    "to_tsvector('simple', translate(lower(nombre || ' ' || codigo || ' ' || id), 'áéíóúüñ', 'aeiouun'))";

/// How far the indexer is: all that imports wrote up to here has its words.
type Position = (i64, String);

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

/// Writes the words of up to `size` products that imports wrote. Gives how many; 0 where there is none, or
/// where another process is at it.
pub async fn index_next(pool: &PgPool, size: i64) -> sqlx::Result<u64> {
    // Versions rise in the order in which imports commit, because who takes one holds the lock of imports until
    // then. So with that lock in hand nothing at or below the last version is still on its way, except what
    // people change one by one, which brings its own words.
    let mut turn = pool.begin().await?;
    batch::wait_for_imports(&mut turn).await?;
    let horizon: i64 =
        sqlx::query_scalar("select last_value from product_versions").fetch_one(&mut *turn).await?;
    turn.commit().await?;

    let mut transaction = pool.begin().await?;
    let query = "select version, product_id from search_progress for update skip locked";
    let Some((version, product_id)): Option<Position> =
        sqlx::query_as(query).fetch_optional(&mut *transaction).await?
    else {
        return Ok(0);
    };
    let statement = format!(
        "with next as materialized (
            select id, version, nombre, codigo from products
            where (version, id) > ($1, $2) and version <= $3 order by version, id limit $4
        ), written as (
            insert into product_words (product_id, version, words)
            select id, version, {WORDS} from next
            on conflict (product_id) do update set version = excluded.version, words = excluded.words
            where product_words.version < excluded.version
        ), last as (
            select version, id from next order by version desc, id desc limit 1
        ), moved as (
            update search_progress set version = last.version, product_id = last.id from last
        )
        select count(*) from next"
    );
    let indexed: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
        .bind(version)
        .bind(product_id)
        .bind(horizon)
        .bind(size)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(indexed.unsigned_abs())
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
