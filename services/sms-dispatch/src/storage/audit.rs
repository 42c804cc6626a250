//! Who did what with personal data.

use sea_orm::sqlx::{self, PgConnection};
use serde_json::Value;

/// Writes that `actor` did something, in the transaction in which it was done.
pub async fn record(
    conn: &mut PgConnection,
    actor: &str,
    action: &str,
    subject: Option<&str>,
    details: &Value,
) -> sqlx::Result<()> {
    sqlx::query("insert into contact_audit (actor, action, subject, details) values ($1, $2, $3, $4)")
        .bind(actor)
        .bind(action)
        .bind(subject)
        .bind(details)
        .execute(conn)
        .await
        .map(drop)
}
