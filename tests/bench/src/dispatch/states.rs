//! `heap_only`: how many changes of the ledger's rows stay in their pages.

use super::{Arena, silent};
use crate::figure::Figure;
use anyhow::Result;
use serde_json::Value;
use simulators::messages::Faults;
use std::time::Duration;

/// Messages that are sent and reported on, a part of the campaign.
const SAMPLE: i64 = 20_000;

/// The share of the updates that need no index, while messages of a campaign that is being sent are delivered.
pub async fn measure(arena: &Arena, id: &str, recipients: i64) -> Result<()> {
    let sample = SAMPLE.min(recipients / 8);
    let delivered = |progress: &Value| progress["messages"]["delivered"].as_i64().unwrap_or_default();
    let before = arena.updates().await?;
    let first = delivered(&arena.when(id, |_| true).await?);
    arena.faults(&Faults { texts: false, ..Faults::default() }).await?;
    arena.when(id, |progress| delivered(progress) >= first + sample).await?;
    // What a backend has done is told a little later: submitting, and delivered, for a webhook may come before the answer.
    let updates = || async { arena.updates().await.unwrap_or(before) };
    stack::wait::until("the updates should be counted", Duration::from_secs(60), async || {
        updates().await.0 - before.0 >= 2 * sample
    })
    .await?;
    let after = updates().await;
    arena.faults(&silent()).await?;
    let (all, stayed) = (after.0 - before.0, after.1 - before.1);
    Figure::new("dispatch", "heap_only", stayed as f64 / all as f64, "of the updates")
        .n(usize::try_from(all)?)
        .number("messages", sample as f64)
        .number("recipients", recipients as f64)
        .print();
    Ok(())
}
