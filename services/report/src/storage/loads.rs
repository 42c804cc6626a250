//! How far the command `load` has come with its files.

use sea_orm::sqlx::{self, PgConnection, PgExecutor};

/// How far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Bytes of the file whose rows are in the tables.
    pub bytes: i64,
    /// Those rows.
    pub rows: i64,
    /// Whether that is all of it.
    pub finished: bool,
}

/// How far this file is.
pub async fn position(executor: impl PgExecutor<'_>, fingerprint: &str) -> sqlx::Result<Position> {
    let found: Option<(i64, i64, bool)> =
        sqlx::query_as("select position_bytes, rows, finished from loads where fingerprint = $1")
            .bind(fingerprint)
            .fetch_optional(executor)
            .await?;
    Ok(found.map_or_else(Position::default, |(bytes, rows, finished)| Position { bytes, rows, finished }))
}

/// Notes it, in the transaction of the rows.
pub async fn advance(
    conn: &mut PgConnection,
    fingerprint: &str,
    filename: &str,
    position: Position,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into loads (fingerprint, filename, position_bytes, rows, finished) values ($1, $2, $3, $4, $5)
         on conflict (fingerprint) do update
         set position_bytes = excluded.position_bytes, rows = excluded.rows, finished = excluded.finished,
             filename = excluded.filename, updated_at = now()",
    )
    .bind(fingerprint)
    .bind(filename)
    .bind(position.bytes)
    .bind(position.rows)
    .bind(position.finished)
    .execute(conn)
    .await
    .map(drop)
}
