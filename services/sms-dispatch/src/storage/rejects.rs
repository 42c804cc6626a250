//! `contact_rejects`: the rows of files that gave no contact. SQL by hand: a ledger without a key, read in pages.

use sea_orm::sqlx::{self, PgPool};

/// A row of a file that was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Which one.
    pub source_id: i64,
    /// What stood where a phone should.
    pub value: Option<String>,
    /// The code of a [`crate::domain::Reason`].
    pub reason: String,
}

/// The rejected rows of an import after the row `after`, in the file's order; `limit` at most.
pub async fn page(pool: &PgPool, import: i32, after: i64, limit: i64) -> sqlx::Result<Vec<Reject>> {
    let rows: Vec<(i64, Option<String>, String)> = sqlx::query_as(
        "select source_id, value, reason from contact_rejects
         where import = $1 and source_id > $2 order by source_id limit $3",
    )
    .bind(import)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(source_id, value, reason)| Reject { source_id, value, reason }).collect())
}
