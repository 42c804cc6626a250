//! Failed logins, counted. An attempt is charged before its password is looked at and refunded when it was
//! right: a thousand guesses sent at once are a thousand failures, not one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, DbErr};

use super::sql;
use crate::domain::throttle::Policy;

/// Whether an attempt may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// It may.
    Free,
    /// Not yet. Not counted either.
    Blocked(Duration),
}

/// Charges one attempt to `key`. Two statements, of which the first locks the row: run it in a transaction.
pub async fn charge(
    connection: &impl ConnectionTrait,
    key: &str,
    policy: Policy,
    now: DateTime<Utc>,
) -> Result<Charge, DbErr> {
    let forgotten = now - TimeDelta::from_std(policy.forget).unwrap_or(TimeDelta::MAX);
    let charged = connection
        .query_one_raw(sql(
            "INSERT INTO login_throttle AS t (key, failures, last_failed_at, blocked_until)
             VALUES ($1, 1, $2, $2)
             ON CONFLICT (key) DO UPDATE SET
                 failures = CASE WHEN t.blocked_until > $2 THEN t.failures
                                 WHEN t.last_failed_at < $3 THEN 1
                                 ELSE t.failures + 1 END,
                 last_failed_at = CASE WHEN t.blocked_until > $2 THEN t.last_failed_at ELSE $2 END
             RETURNING failures, blocked_until",
            [key.into(), now.into(), forgotten.into()],
        ))
        .await?
        .ok_or_else(|| DbErr::RecordNotFound("an upsert returns its row".into()))?;
    let blocked_until: DateTime<Utc> = charged.try_get("", "blocked_until")?;
    if let Ok(wait) = (blocked_until - now).to_std()
        && !wait.is_zero()
    {
        return Ok(Charge::Blocked(wait));
    }
    let failures: i32 = charged.try_get("", "failures")?;
    let delay = policy.delay(u32::try_from(failures).unwrap_or(u32::MAX));
    if !delay.is_zero() {
        let until = now + TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        connection
            .execute_raw(sql(
                "UPDATE login_throttle SET blocked_until = $2 WHERE key = $1",
                [key.into(), until.into()],
            ))
            .await?;
    }
    Ok(Charge::Free)
}

/// Forgets the failures of `key`: its password was right.
pub async fn clear(connection: &impl ConnectionTrait, key: &str) -> Result<(), DbErr> {
    connection.execute_raw(sql("DELETE FROM login_throttle WHERE key = $1", [key.into()])).await?;
    Ok(())
}

/// Takes back one attempt and the wait it caused, but not the failures before it.
pub async fn refund(connection: &impl ConnectionTrait, key: &str, now: DateTime<Utc>) -> Result<(), DbErr> {
    connection
        .execute_raw(sql(
            "UPDATE login_throttle SET failures = greatest(failures - 1, 0), blocked_until = $2 WHERE key = $1",
            [key.into(), now.into()],
        ))
        .await?;
    Ok(())
}

/// Deletes rows without a failure since `before`.
pub async fn prune(connection: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    let pruned = connection
        .execute_raw(sql("DELETE FROM login_throttle WHERE last_failed_at < $1", [before.into()]))
        .await?;
    Ok(pruned.rows_affected())
}
