//! The last phase: who opted out stays out, the views tell the new counts, and the sums are checked.

use anyhow::ensure;
use sea_orm::sqlx::{self, PgConnection, PgPool};

use crate::storage::{batches, batches::Sums, merge, suppressions, views};

/// Brings what follows from contacts up to date.
///
/// # Errors
/// The database.
pub async fn follow(pool: &PgPool, import: i32) -> anyhow::Result<()> {
    suppressions::apply(pool).await?;
    let mut transaction = pool.begin().await?;
    batches::relax(&mut transaction).await?;
    merge::clear(&mut transaction, import).await?;
    transaction.commit().await?;
    views::refresh(pool).await?;
    Ok(())
}

/// The sums of the batches, if the tables say the same.
///
/// # Errors
/// The database, or rows that vanished.
pub async fn check(conn: &mut PgConnection, import: i32) -> anyhow::Result<Sums> {
    let sums = batches::sums(conn, import).await?;
    let (contacts, changes, merges, rejects): (i64, i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from contacts where import = $1), (select count(*) from contact_changes where import = $1),
                (select count(*) from contact_merges where import = $1),
                (select count(*) from contact_rejects where import = $1)",
    )
    .bind(import)
    .fetch_one(conn)
    .await?;
    let told = (sums.created, sums.updated, sums.merged, sums.rejected);
    ensure!(
        told == (contacts, changes, merges, rejects),
        "the batches tell of (contacts, changes, merges, rejects) {told:?}, the tables hold {:?}",
        (contacts, changes, merges, rejects)
    );
    let outcomes = sums.created + sums.updated + sums.unchanged + sums.merged + sums.rejected;
    ensure!(outcomes == sums.rows, "{} rows were read, {outcomes} have an outcome", sums.rows);
    Ok(sums)
}
