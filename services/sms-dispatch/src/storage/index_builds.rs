//! The indexes of `contacts`: away before a load into an empty table, back after it, several at once. SQL by hand: none of it
//! is about rows.

use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use failpoints::Point;
use futures::future::try_join_all;
use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgPool, Postgres, pool::PoolConnection};

use super::indexes::{self, Index};

/// Memory for one build, in this session alone.
const MEMORY: &str = "512MB";

/// Removes all of them.
pub async fn drop_all(conn: &mut PgConnection, indexes: &[Index]) -> sqlx::Result<()> {
    for index in indexes {
        sqlx::query(AssertSqlSafe(index.drop())).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Builds those that are not there, `builders` at once, each by one process: a server with more cores than that lends
/// each build some of them.
///
/// # Errors
/// The database, or two contacts with one phone.
pub async fn build(pool: &PgPool, indexes: &[Index], builders: usize) -> anyhow::Result<()> {
    // Not even asked for where it is there: the statement locks the table against writers before it looks.
    let there = indexes::there(pool).await?;
    let missing: Vec<_> =
        indexes.iter().filter(|index| !there.iter().any(|name| name == index.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let rest = Mutex::new(missing.into_iter());
    try_join_all((0..builders).map(|_| async {
        let mut conn = patient(pool).await?;
        loop {
            let next = rest.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(index) = next else { return anyhow::Ok(()) };
            let started = std::time::Instant::now();
            build_one(&mut conn, index).await.with_context(|| format!("building index {}", index.name))?;
            failpoints::hit(Point::IndexBuilt);
            tracing::info!(index = index.name, seconds = started.elapsed().as_secs_f64(), "index built");
        }
    }))
    .await
    .map(drop)
}

async fn build_one(conn: &mut PgConnection, index: &Index) -> sqlx::Result<()> {
    // A process that died may have left its server side building: it is waited for, and its index kept.
    let lock = "hashtext(current_schema() || '.' || $1)";
    let call = |function: &str| AssertSqlSafe(format!("select {function}({lock})"));
    sqlx::query(call("pg_advisory_lock")).bind(index.name).execute(&mut *conn).await?;
    sqlx::query(AssertSqlSafe(index.create())).execute(&mut *conn).await?;
    sqlx::query(call("pg_advisory_unlock")).bind(index.name).execute(conn).await.map(drop)
}

/// What a planner and an index-only scan need to know after a load.
pub async fn vacuum(pool: &PgPool) -> sqlx::Result<()> {
    let mut conn = patient(pool).await?;
    sqlx::query("vacuum (analyze) contacts").execute(&mut *conn).await.map(drop)
}

/// A connection that waits as long as it takes, and is not used for anything else.
async fn patient(pool: &PgPool) -> sqlx::Result<PoolConnection<Postgres>> {
    let mut conn = pool.acquire().await?;
    conn.close_on_drop();
    let settings = format!(
        "set statement_timeout = 0; set lock_timeout = 0; set maintenance_work_mem = '{MEMORY}';
         set max_parallel_maintenance_workers = 0"
    );
    sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut *conn).await?;
    Ok(conn)
}
