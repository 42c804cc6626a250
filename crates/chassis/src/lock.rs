//! Advisory locks of PostgreSQL: of all processes of a service, one at a time does what a lock's name says. A name
//! belongs to its schema: two installations in one database don't wait for each other. A lock ends with its transaction,
//! and so with its process, however that ends.

use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection};

/// The key of the lock whose name is `$1`, for statements that take a lock beside something else.
pub const KEY: &str = "hashtextextended(current_schema() || ' ' || $1, 0)";

/// Waits until nobody else holds the lock of this name, and holds it until the transaction ends.
///
/// # Errors
/// The database; the connection's `lock_timeout` has passed.
pub async fn hold(conn: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    let statement = format!("SELECT pg_advisory_xact_lock({KEY})");
    sqlx::query(AssertSqlSafe(statement)).bind(name).execute(conn).await.map(drop)
}

/// The same for work that several may do at once: those who share the lock don't wait for each other, only for whoever
/// holds it alone by [`hold`], who waits for them in turn.
///
/// # Errors
/// As [`hold`].
pub async fn hold_shared(conn: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    let statement = format!("SELECT pg_advisory_xact_lock_shared({KEY})");
    sqlx::query(AssertSqlSafe(statement)).bind(name).execute(conn).await.map(drop)
}

/// [`hold`] without waiting. False: somebody else holds it.
///
/// # Errors
/// The database.
pub async fn try_hold(conn: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let query = format!("SELECT pg_try_advisory_xact_lock({KEY})");
    sqlx::query_scalar(AssertSqlSafe(query)).bind(name).fetch_one(conn).await
}
