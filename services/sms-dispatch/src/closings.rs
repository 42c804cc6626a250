//! What a provider says of more than one message closes a sender, or the provider itself: in an answer, a webhook or its records.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use sea_orm::sqlx::PgConnection;
use serde_json::json;

use crate::{
    domain::sender::ProviderName,
    settle::{Closes, Fact, Open},
    storage::{audit, ledger::Row, providers, senders},
};

/// Takes a sender out of use, with an audit row, unless it is so already.
///
/// # Errors
/// The database.
pub async fn close_sender(conn: &mut PgConnection, address: &str, reason: &str) -> anyhow::Result<()> {
    if senders::disable(conn, address).await? {
        told(conn, "sms_sender_closed", address, json!({ "reason": reason })).await?;
    }
    Ok(())
}

/// Closes a provider, with an audit row, unless it is so already: for so long, or until a person or its balance opens it. Gives
/// whether it was open.
///
/// # Errors
/// The database.
pub async fn close_provider(
    conn: &mut PgConnection,
    provider: ProviderName,
    reason: &str,
    pause: Option<Duration>,
) -> anyhow::Result<bool> {
    let opens_at = pause.and_then(|pause| TimeDelta::from_std(pause).ok()).map(|pause| Utc::now() + pause);
    let is_news = providers::close(conn, provider, reason, opens_at).await?;
    if is_news {
        let details = json!({ "reason": reason, "opens_at": opens_at });
        told(conn, "sms_provider_closed", provider.name(), details).await?;
    }
    Ok(is_news)
}

/// Closes what reports say is closed. Only those count that were news, as `changed` has the rows after them; and they say nothing
/// of a sender or a provider that was opened after their message went out.
///
/// # Errors
/// The database.
pub async fn by_reports(
    conn: &mut PgConnection,
    campaign: &Open,
    facts: &[Fact],
    changed: &[Row],
) -> anyhow::Result<()> {
    for fact in facts {
        let Some(closes) = fact.closes else { continue };
        let row = changed.iter().find(|row| row.position == fact.position && row.attempt == fact.attempt);
        let Some((row, sender)) = row.and_then(|row| Some((row, campaign.sender(row)?))) else { continue };
        let went = row.sent_at.or(Some(fact.at));
        let reason = fact.reason.as_deref().unwrap_or_default();
        match closes {
            Closes::Sender => {
                if senders::disable_by(conn, &sender.address, went).await? {
                    told(conn, "sms_sender_closed", &sender.address, json!({ "reason": reason })).await?;
                }
            }
            Closes::Provider => {
                if providers::close_by(conn, sender.provider, reason, None, went).await? {
                    let details = json!({ "reason": reason, "opens_at": null });
                    told(conn, "sms_provider_closed", sender.provider.name(), details).await?;
                }
            }
        }
    }
    Ok(())
}

async fn told(
    conn: &mut PgConnection,
    action: &str,
    of: &str,
    details: serde_json::Value,
) -> anyhow::Result<()> {
    tracing::error!(action, of, %details, "a provider takes no messages");
    Ok(audit::record(conn, "system", action, Some(of), &details).await?)
}
