//! What a consumer has already done, so that a message delivered twice has its effect once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, PgConnection, PgPool};
use uuid::Uuid;

use crate::Error;

/// Messages forgotten together.
const BATCH: i64 = 5000;

/// Remembers, in the transaction of the effect, that `consumer` has processed message `id`. Returns
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

/// Forgets messages received longer ago than `older_than`, which must exceed the longest time for which a queue
/// keeps a message. One that may be replayed is remembered: as long as a letter of it is open, and for `older_than`
/// after it was replayed. Returns how many it forgot. Works in small transactions.
///
/// # Errors
/// The database.
pub async fn prune(pool: &PgPool, older_than: Duration) -> Result<u64, Error> {
    let mut pruned = 0;
    // Behind what was forgotten last: what stays is looked at once.
    let mut after = None;
    loop {
        let (batch, last): (i64, Option<DateTime<Utc>>) = sqlx::query_as(
            "WITH forgotten AS (
                 DELETE FROM inbox WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM inbox
                     WHERE received_at < now() - make_interval(secs => $1)
                       AND received_at >= coalesce($2, '-infinity')
                       AND NOT EXISTS (
                           SELECT FROM dead_letters AS letter
                           WHERE letter.message_id = inbox.message_id
                             AND (letter.state = 'open'
                                  OR letter.replayed_at > now() - make_interval(secs => $1)))
                     ORDER BY received_at LIMIT $3 FOR UPDATE SKIP LOCKED))
                 RETURNING received_at)
             SELECT count(*), max(received_at) FROM forgotten",
        )
        .bind(older_than.as_secs_f64())
        .bind(after)
        .bind(BATCH)
        .persistent(false)
        .fetch_one(pool)
        .await?;
        pruned += batch as u64;
        after = last;
        if batch < BATCH {
            return Ok(pruned);
        }
    }
}
