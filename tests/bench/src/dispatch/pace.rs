//! How well the rate is kept, and how soon a pause is.

use super::{Arena, small};
use crate::figure::Figure;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use stack::platform::sending;
use std::time::Duration;

/// Messages a second of a campaign whose rate is looked at.
const RATE: i64 = 200;
const SECONDS: i64 = 30;
/// Pauses.
const PAUSES: usize = 20;
/// After so long nothing more goes, or something is very wrong.
const QUIET: Duration = Duration::from_secs(3);

/// `rate_overshoot`: the worst second, wherever it begins, as a multiple of the rate, with two workers.
pub async fn overshoot(arena: &Arena) -> Result<()> {
    let many = (RATE * SECONDS).min(small()?);
    sending::people(&arena.pool, "Ritmo", 1_000_000, many).await?;
    let mut plan = sending::plan(&json!({ "cities": ["Ritmo"] }));
    plan["per_minute"] = json!(RATE * 60);
    sending::start(&arena.client, "Ritmo", "cobranza", &plan).await?;
    let summary = arena.accepted(usize::try_from(many)?).await?;
    let (first, last) = summary.first_at.zip(summary.last_at).context("messages")?;
    let seconds = (last - first).as_seconds_f64();
    Figure::new("dispatch", "rate_overshoot", summary.worst_second as f64 / RATE as f64, "times the rate")
        .n(summary.accepted)
        .number("rate", RATE as f64)
        .number("mean_rate", (summary.accepted - 1) as f64 / seconds)
        .print();
    Ok(())
}

/// `pause`: from the request until the last message was accepted, the worst of 20 pauses of a campaign that is being sent.
pub async fn pauses(arena: &Arena, id: &str) -> Result<()> {
    let (mut worst, mut late) = (0.0_f64, 0);
    for _ in 0..PAUSES {
        let before = arena.summary().await?.accepted;
        // In mid-sending, or there is nothing to stop.
        arena.accepted(before + RATE as usize / 4).await?;
        let asked = chrono::Utc::now();
        sending::act(&arena.direct, id, "pause").await?;
        tokio::time::sleep(QUIET).await;
        let summary = arena.summary().await?;
        let last = summary.last_at.context("messages")?;
        let seconds = (last - asked).as_seconds_f64().max(0.0);
        ensure!(seconds < QUIET.as_secs_f64() - 0.2, "a pause did not stop it: {seconds} s");
        late += usize::from(seconds > 0.0);
        worst = worst.max(seconds);
        sending::act(&arena.direct, id, "resume").await?;
    }
    Figure::new("dispatch", "pause", worst, "s").n(PAUSES).with("sent_after", json!(late)).print();
    Ok(())
}
