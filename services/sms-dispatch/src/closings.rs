//! What a provider says of more than one message closes a sender, or the provider itself: in an answer, a webhook or its records.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use sea_orm::sqlx::PgConnection;
use serde_json::json;

use crate::{
    domain::sender::ProviderName,
    providers::messaging::UNDER_WAY,
    settle::{Changed, Closes, Fact, Open},
    storage::{audit, providers, senders},
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

/// Closes what reports say is closed. Only those count that were news, as they `changed` rows; and they say nothing of a sender or a
/// provider that was opened after their message went out.
///
/// # Errors
/// The database.
pub async fn by_reports(
    conn: &mut PgConnection,
    campaign: &Open,
    facts: &[Fact],
    changed: &Changed,
) -> anyhow::Result<()> {
    let under_way = TimeDelta::from_std(UNDER_WAY)?;
    for fact in facts {
        let Some(closes) = fact.closes else { continue };
        let row =
            changed.rows.iter().find(|row| row.position == fact.position && row.attempt == fact.attempt);
        let Some((row, sender)) = row.and_then(|row| Some((row, campaign.sender(row)?))) else { continue };
        // Of one that nobody had heard of before the report is the first word, however late it comes.
        let asked = changed.deadlines.get(&row.position).map(|deadline| *deadline - under_way);
        let went = [row.sent_at, asked].into_iter().flatten().min().or(Some(fact.at));
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
