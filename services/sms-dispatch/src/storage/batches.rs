//! What is done of an import.

use sea_orm::sqlx::{self, PgConnection, PgPool};
use serde_json::Value;

/// What a batch did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    pub phase: &'static str,
    pub batch: i64,
    pub rows: i64,
    pub created: i64,
    pub updated: i64,
    pub unchanged: i64,
    pub merged: i64,
    pub staged: i64,
    pub rejected: i64,
    pub repaired: i64,
    pub position: Option<Value>,
}

/// Lets a loader's transaction take as long as it takes, and commit without waiting for the disk: its checkpoint goes
/// with its rows, so that what a dying server forgets is done again.
pub async fn relax(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(
        "set local synchronous_commit = off; set local statement_timeout = 0; set local plan_cache_mode = force_custom_plan",
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Writes that a batch is done, in its transaction.
pub async fn record(conn: &mut PgConnection, import: i32, done: &Done) -> sqlx::Result<()> {
    sqlx::query(
        "insert into import_batches (import, phase, batch, rows, created, updated, unchanged, merged, staged, rejected,
                                     repaired, position)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(import)
    .bind(done.phase)
    .bind(done.batch)
    .bind(done.rows)
    .bind(done.created)
    .bind(done.updated)
    .bind(done.unchanged)
    .bind(done.merged)
    .bind(done.staged)
    .bind(done.rejected)
    .bind(done.repaired)
    .bind(&done.position)
    .execute(conn)
    .await
    .map(drop)
}

/// The batches that are loaded, with where the next one begins.
pub async fn loaded(pool: &PgPool, import: i32) -> sqlx::Result<Vec<(i64, Option<Value>)>> {
    sqlx::query_as(
        "select batch, position from import_batches where import = $1 and phase = 'load' order by batch",
    )
    .bind(import)
    .fetch_all(pool)
    .await
}

/// The sums over an import's batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Rows read.
    pub rows: i64,
    pub created: i64,
    pub updated: i64,
    pub unchanged: i64,
    pub merged: i64,
    pub rejected: i64,
    pub repaired: i64,
    pub merge_batches: i64,
}

/// What the batches did so far.
pub async fn sums(conn: &mut PgConnection, import: i32) -> sqlx::Result<Sums> {
    let (rows, created, updated, unchanged, merged, rejected, repaired, merge_batches) =
        sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64, i64, i64)>(
            "select coalesce(sum(rows) filter (where phase = 'load'), 0)::bigint,
                    coalesce(sum(created), 0)::bigint, coalesce(sum(updated), 0)::bigint,
                    coalesce(sum(unchanged), 0)::bigint, coalesce(sum(merged), 0)::bigint,
                    coalesce(sum(rejected), 0)::bigint, coalesce(sum(repaired), 0)::bigint,
                    count(*) filter (where phase = 'merge')
             from import_batches where import = $1",
        )
        .bind(import)
        .fetch_one(conn)
        .await?;
    Ok(Sums { rows, created, updated, unchanged, merged, rejected, repaired, merge_batches })
}

/// Whether imports other than this one have brought contacts in that were not rolled back.
pub async fn of_others(pool: &PgPool, import: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from import_batches where import <> $1 and created > 0)")
        .bind(import)
        .fetch_one(pool)
        .await
}

/// The number of the last batch of merging, and the phone it ended with.
pub async fn last_merge(pool: &PgPool, import: i32) -> sqlx::Result<(i64, String)> {
    let last = sqlx::query_as(
        "select batch, position #>> '{}' from import_batches where import = $1 and phase = 'merge'
         order by batch desc limit 1",
    )
    .bind(import)
    .fetch_optional(pool)
    .await?;
    Ok(last.unwrap_or_default())
}
