//! What a consumer has already done, so that a message delivered twice has its effect once.

use std::time::Duration;

use sea_orm::sqlx::{self, PgConnection, PgPool};
use uuid::Uuid;

use crate::Error;

/// Remembers, in the transaction of the effect, that `consumer` has worked off message `id`. Returns
/// whether this is the first time; otherwise the caller has nothing to do. Where two deliveries run at
/// once, the second waits here for the first's transaction to end.
///
/// # Errors
/// The database.
pub async fn record(conn: &mut PgConnection, consumer: &str, id: Uuid) -> Result<bool, Error> {
    let written =
        sqlx::query("INSERT INTO inbox (consumer, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(consumer)
            .bind(id)
            .execute(conn)
            .await?;
    Ok(written.rows_affected() == 1)
}

/// Forgets messages received longer ago than `older_than`, which must exceed the longest time after which
/// a message can come again: the retention of the longest-living queue plus the age up to which letters
/// are replayed. Returns how many it forgot. Works in small transactions.
///
/// # Errors
/// The database.
pub async fn prune(pool: &PgPool, older_than: Duration) -> Result<u64, Error> {
    let mut pruned = 0;
    loop {
        let batch = sqlx::query(
            "DELETE FROM inbox WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM inbox WHERE received_at < now() - make_interval(secs => $1)
                 ORDER BY received_at LIMIT 5000 FOR UPDATE SKIP LOCKED))",
        )
        .bind(older_than.as_secs_f64())
        .execute(pool)
        .await?
        .rows_affected();
        pruned += batch;
        if batch < 5000 {
            return Ok(pruned);
        }
    }
}
