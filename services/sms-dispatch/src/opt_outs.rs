//! Somebody does not want to be written to any more, and says so by a message, or through the provider. From the commit on
//! nobody writes to this phone, whatever else is going on: contacts, whose turn a restore may have for an hour, follow.

use sea_orm::sqlx::{PgConnection, PgPool};

use crate::storage::suppressions;

/// Suppresses phones from now on, in the caller's transaction. Gives those that were not suppressed by an opt-out before.
///
/// # Errors
/// The database.
pub async fn suppress(
    conn: &mut PgConnection,
    phones: &[String],
    source: &str,
    actor: &str,
) -> anyhow::Result<Vec<String>> {
    if phones.is_empty() {
        return Ok(Vec::new());
    }
    Ok(suppressions::opt_out(conn, phones, source, actor).await?)
}

/// Lets the contacts of phones that were suppressed follow, unless others have their turn: then they follow with the next
/// upkeep.
pub async fn follow(pool: &PgPool, phones: &[String]) {
    if phones.is_empty() {
        return;
    }
    match suppressions::try_follow(pool, phones).await {
        Ok(true) => {}
        Ok(false) => tracing::info!(phones = phones.len(), "contacts follow their opt-outs later"),
        Err(error) => {
            tracing::warn!(%error, phones = phones.len(), "contacts follow their opt-outs later");
        }
    }
}
