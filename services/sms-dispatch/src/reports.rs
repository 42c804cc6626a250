//! Applies what providers told us: statuses in batches, whatever their order; and what people wrote to us in a lane of its own,
//! for an opt-out waits behind nothing.

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use sea_orm::sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        keywords::{Keyword, keyword},
        message_id::MessageId,
        sender::ProviderName,
        suppression::Cause,
        webhooks::{Status, Webhook, telnyx, twilio},
    },
    settle::{self, Fact, Open},
    storage::{
        campaigns, ledger,
        reports::{self, Kept},
        suppressions::{self, New},
    },
};

/// Statuses applied in one transaction.
const BATCH: i64 = 500;
/// Messages to us in one transaction.
const INBOUND: i64 = 50;
/// How often it looks where there was nothing.
const PAUSE: Duration = Duration::from_millis(200);

/// What waits for nothing of the other.
#[derive(Clone, Copy, Debug)]
pub enum Lane {
    /// Reports on messages of ours.
    Statuses,
    /// What people wrote to us.
    Inbound,
}

/// The background tasks. Any number may run at once.
#[derive(Clone)]
pub struct Reports {
    pool: PgPool,
}

impl Reports {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Works on one lane until `shutdown` is cancelled.
    pub async fn run(self, lane: Lane, shutdown: CancellationToken) {
        loop {
            let work = async {
                match lane {
                    Lane::Statuses => self.statuses().await,
                    Lane::Inbound => self.inbound().await,
                }
            };
            let more = match shutdown.run_until_cancelled(work).await {
                None => return,
                Some(Ok(more)) => more,
                Some(Err(error)) => {
                    tracing::warn!(error = %format!("{error:#}"), ?lane, "what providers said is not applied yet");
                    false
                }
            };
            if !more && shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Applies the oldest statuses. Gives whether there may be more.
    ///
    /// # Errors
    /// The database.
    pub async fn statuses(&self) -> anyhow::Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let kept = reports::take(&mut transaction, BATCH).await?;
        if kept.is_empty() {
            return Ok(false);
        }
        let more = kept.len() as i64 == BATCH;
        // In the order of the campaigns' numbers, in which everybody locks who locks rows of several.
        let mut by_campaign: BTreeMap<i32, Vec<(MessageId, Status)>> = BTreeMap::new();
        for status in kept.iter().filter_map(read) {
            let id = status.callback.and_then(|callback| MessageId::parse(callback.message));
            // Not sent by this service.
            let Some(id) = id else { continue };
            by_campaign.entry(id.campaign).or_default().push((id, status));
        }
        let mut opted_out = Vec::new();
        for (number, statuses) in by_campaign {
            opted_out.extend(apply(&mut transaction, number, &statuses).await?);
        }
        suppress(&mut transaction, &opted_out, "proveedor").await?;
        transaction.commit().await?;
        Ok(more)
    }

    /// Handles the oldest messages to us. Gives whether there may be more.
    ///
    /// # Errors
    /// The database.
    pub async fn inbound(&self) -> anyhow::Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let open = reports::open_inbound(&mut transaction, INBOUND).await?;
        if open.is_empty() {
            return Ok(false);
        }
        let mut opted_out = Vec::new();
        for inbound in &open {
            let meaning = match keyword(&inbound.text) {
                Some(Keyword::Stop) => {
                    opted_out.push(inbound.phone_e164.clone());
                    "opt_out"
                }
                Some(Keyword::Help) => "help",
                // Whoever wants messages again asks a person: a word that a phone sends by itself takes no opt-out back.
                Some(Keyword::Start) => "start",
                None => "reply",
            };
            reports::handled(&mut transaction, inbound, meaning).await?;
        }
        suppress(&mut transaction, &opted_out, "respuesta").await?;
        transaction.commit().await?;
        Ok(open.len() as i64 == INBOUND)
    }
}

/// A status that was kept. It was read once before it was kept.
fn read(kept: &Kept) -> Option<Status> {
    let webhook = match ProviderName::parse(&kept.provider)? {
        ProviderName::Telnyx => telnyx::parse(kept.body.as_bytes()),
        ProviderName::Twilio => twilio::parse(&kept.url, kept.body.as_bytes(), Utc::now()),
        ProviderName::Log => return None,
    };
    match webhook {
        Ok(Webhook::Status(status)) => Some(status),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, report = kept.id, "a report that was understood is not any more");
            None
        }
    }
}

/// Applies statuses of one campaign. Gives the phones that opted out at the provider.
async fn apply(
    conn: &mut PgConnection,
    number: i32,
    statuses: &[(MessageId, Status)],
) -> anyhow::Result<Vec<String>> {
    let Some(campaign) = campaigns::by_number(conn, number).await? else { return Ok(Vec::new()) };
    let Some(date) = campaign.date else { return Ok(Vec::new()) };
    // Past retention nothing is known of a message any more.
    if !ledger::has_day(conn, date).await? {
        return Ok(Vec::new());
    }
    let open = Open::of(&campaign)?;
    let now = settle::now(conn).await?;
    let of_day = statuses.iter().filter(|(id, _)| id.date == date);
    let facts: Vec<Fact> = of_day
        .clone()
        .filter_map(|(id, status)| {
            let (report, verdict) = (&status.report, status.report.verdict.as_ref());
            Some(Fact {
                phone: status.to.map(|phone| phone.to_string()),
                provider_id: Some(report.provider_id),
                parts: report.parts.filter(|parts| *parts > 0).and_then(|parts| parts.try_into().ok()),
                cost_micros: report.cost.map(|cost| cost.micros),
                code: verdict.and_then(|verdict| verdict.code).map(|code| code.to_string()),
                reason: verdict.map(|verdict| verdict.reason.clone()),
                repeatable: verdict.is_some_and(|verdict| verdict.repeatable),
                ..Fact::plain(
                    id.position,
                    status.callback?.attempt,
                    report.observed,
                    report.at.unwrap_or(now),
                )
            })
        })
        .collect();
    settle::observe(conn, &open, &facts).await?;
    let suppressing: Vec<i32> = of_day
        .filter(|(_, status)| status.report.verdict.as_ref().is_some_and(|verdict| verdict.suppresses))
        .map(|(id, _)| id.position)
        .collect();
    let rows = ledger::lock(conn, date, number, &suppressing).await?;
    Ok(rows.into_iter().map(|row| row.phone_e164).collect())
}

/// Suppresses phones whose owners said so.
///
/// # Errors
/// The database.
pub async fn suppress(conn: &mut PgConnection, phones: &[String], source: &str) -> anyhow::Result<()> {
    if phones.is_empty() {
        return Ok(());
    }
    suppressions::turn(conn).await?;
    let now = suppressions::now(conn).await?;
    let batch: Vec<New> = phones
        .iter()
        .map(|phone| New { phone: phone.clone(), cause: Cause::OptOut, effective_at: now })
        .collect();
    suppressions::add(conn, &batch, source, "recipient").await?;
    Ok(())
}
