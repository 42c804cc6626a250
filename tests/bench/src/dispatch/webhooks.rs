//! `webhook`: how long a provider waits until a report of its is durable.

use super::Arena;
use crate::figure::{Figure, percentile};
use anyhow::{Context, Result, ensure};
use chrono::{SecondsFormat, Utc};
use sea_orm::sqlx;
use serde_json::json;
use simulators::messages::telnyx_headers;
use sms_dispatch::domain::callback::Callback;
use sms_dispatch::domain::message_id::MessageId;
use sms_dispatch::domain::sender::ProviderName;
use stack::platform::sending::SENDER;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const PER_SECOND: u32 = 500;
const SECONDS: u32 = 20;

/// A report that a message was delivered, as Telnyx writes it.
pub fn delivered(message: MessageId, attempt: i16, phone: &str, base: &str) -> String {
    let url = Callback { message: message.uuid(), attempt }.url(base, ProviderName::Telnyx);
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let id = Uuid::from_u128(message.uuid().as_u128() ^ 0xffff);
    json!({ "data": { "record_type": "event", "id": id, "event_type": "message.finalized", "occurred_at": now, "payload": {
        "record_type": "message", "id": id, "direction": "outbound", "type": "SMS", "from": { "phone_number": SENDER },
        "to": [{ "phone_number": phone, "status": "delivered" }], "webhook_url": url, "encoding": "GSM-7", "parts": 1,
        "tags": [], "cost": { "amount": "0.0051", "currency": "USD" }, "errors": [], "sent_at": now, "completed_at": now,
    } } })
    .to_string()
}

/// Messages of a campaign that a provider has and has not reported on, with attempt and phone.
pub async fn accepted(arena: &Arena, campaign: i32, many: usize) -> Result<Vec<(MessageId, i16, String)>> {
    let rows: Vec<(i32, i16, String, chrono::NaiveDate)> = sqlx::query_as(
        "select position, attempt, phone_e164, date from messages
         where campaign = $1 and state = 3 order by position limit $2",
    )
    .bind(campaign)
    .bind(i64::try_from(many)?)
    .fetch_all(&arena.pool)
    .await?;
    let message = |(position, attempt, phone, date)| (MessageId { date, campaign, position }, attempt, phone);
    Ok(rows.into_iter().map(message).collect())
}

/// Delivers reports at their rate, whatever the answers take, through the gateway as providers do.
pub async fn measure(arena: &Arena, campaign: i32) -> Result<()> {
    let all = (PER_SECOND * SECONDS) as usize;
    let messages = accepted(arena, campaign, all).await?;
    ensure!(!messages.is_empty(), "no message is with the provider");
    let http = stack::http();
    let gateway = arena.platform.gateway_url();
    let url = format!("{gateway}/webhooks/telnyx");
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    let mut delivering = Vec::new();
    // Some come again where there are fewer: that changes nothing of how they are kept.
    for (message, attempt, phone) in messages.iter().cycle().take(all) {
        let body = delivered(*message, *attempt, phone, &gateway);
        let due = ticks.tick().await;
        let [signature, timestamp] = telnyx_headers(&body)?;
        let request = http
            .post(&url)
            .header("content-type", "application/json")
            .header(signature.0, signature.1)
            .header(timestamp.0, timestamp.1)
            .body(body);
        delivering.push(tokio::spawn(async move {
            let status = request.send().await?.status();
            anyhow::Ok((status, Instant::now() - due))
        }));
    }
    let (mut times, mut refused) = (Vec::new(), 0);
    for one in delivering {
        let (status, took) = one.await??;
        refused += usize::from(!status.is_success());
        times.push(took.as_secs_f64() * 1e3);
    }
    // It would come again, and a refusal is quick: times that have some in them are not the times of answers.
    ensure!(refused == 0, "{refused} of {all} reports were refused");
    // They are applied beside it; what is left of them is not the next figure's.
    stack::wait::until("the reports should be applied", Duration::from_secs(300), async || {
        let left = sqlx::query_scalar::<_, i64>("select count(*) from provider_reports");
        left.fetch_one(&arena.pool).await.is_ok_and(|left| left == 0)
    })
    .await
    .context("webhooks")?;
    Figure::new("dispatch", "webhook", percentile(times.clone(), 99.0), "ms p99")
        .n(times.len())
        .number("per_second", f64::from(PER_SECOND))
        .number("p50", percentile(times.clone(), 50.0))
        .number("max", percentile(times, 100.0))
        .print();
    Ok(())
}
