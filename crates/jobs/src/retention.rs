use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};

use crate::metrics::metrics;

/// Rows a statement.
const BATCH: i64 = 5_000;

/// Deletes the jobs of these kinds that ended before a time, with the keys of their requests, in batches. A job that a row
/// of the service still refers to stays: `references` are the columns, each with its table, that hold ids of jobs. Several
/// processes may do so at once. Gives how many were deleted.
///
/// # Errors
/// The database; what was not deleted is due again.
pub async fn delete_ended(
    pool: &PgPool,
    kinds: &[&str],
    before: DateTime<Utc>,
    references: &[(&'static str, &'static str)],
) -> sqlx::Result<u64> {
    let free: String = references
        .iter()
        .map(|(table, column)| format!(" AND NOT EXISTS (SELECT FROM {table} t WHERE t.{column} = j.id)"))
        .collect();
    let statement = format!(
        "WITH gone AS (
             DELETE FROM jobs WHERE id = ANY (ARRAY(
                 SELECT j.id FROM jobs j WHERE j.kind = ANY($1) AND j.finished_at < $2{free}
                 LIMIT {BATCH} FOR UPDATE OF j SKIP LOCKED))
             RETURNING kind)
         SELECT kind, count(*) FROM gone GROUP BY kind"
    );
    let mut deleted = 0;
    loop {
        let gone: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(statement.clone()))
            .bind(kinds.to_vec())
            .bind(before)
            .fetch_all(pool)
            .await?;
        let mut batch = 0;
        for (kind, count) in gone {
            metrics().deleted.with_label_values(&[kind.as_str()]).inc_by(count.unsigned_abs());
            batch += count;
        }
        deleted += batch.unsigned_abs();
        if batch < BATCH {
            return Ok(deleted);
        }
    }
}
