//! Somebody does not want to be written to any more, and says so by a message, or through the provider. From the commit on
//! nobody writes to this phone, whatever else is going on: contacts, whose turn a restore may have for an hour, follow.

use contracts::sms::v1::ContactOptedOut;
use outbox::Meta;
use sea_orm::sqlx::{PgConnection, PgPool};

use crate::{SERVICE, storage::suppressions};

/// Suppresses phones from now on, in the caller's transaction, and tells of it. Gives those that were not suppressed by an opt-out before.
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
    let new = suppressions::opt_out(conn, phones, source, actor).await?;
    tell(conn, &new, source).await?;
    Ok(new)
}

/// Tells other services of opt-outs that are news, in the transaction that writes them.
///
/// # Errors
/// The database.
pub async fn tell(conn: &mut PgConnection, phones: &[String], source: &str) -> anyhow::Result<()> {
    if phones.is_empty() {
        return Ok(());
    }
    let at = suppressions::now(conn).await?;
    let events = phones.iter().map(|phone| {
        let event = ContactOptedOut {
            phone: phone.clone(),
            source: source.to_owned(),
            opted_out_at: Some(at.into()),
        };
        // No subject: it would be the phone, and subjects are logged.
        (event, Meta::default())
    });
    outbox::publish_all(conn, SERVICE, events.collect()).await?;
    Ok(())
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
