//! Logins that were ended while access tokens of theirs may still be believed. Few at any time: a row goes with the
//! last of its tokens. A table of its own, because a family is gone with its user.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr};
use uuid::Uuid;

use super::sql;

/// All of them, by the ids of their families.
pub async fn all(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Vec<Uuid>, DbErr> {
    let rows =
        connection.query_all_raw(sql("SELECT id FROM ended_sessions WHERE until > $1", [now.into()])).await?;
    rows.iter().map(|row| row.try_get("", "id")).collect()
}

/// Forgets those whose tokens have all expired.
pub async fn prune(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<(), DbErr> {
    connection.execute_raw(sql("DELETE FROM ended_sessions WHERE until <= $1", [now.into()])).await?;
    Ok(())
}
