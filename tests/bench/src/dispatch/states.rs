//! `heap_only`: how many changes of the ledger's rows stay in their pages.

use super::{Arena, PATIENCE, silent};
use crate::figure::Figure;
use anyhow::{Result, ensure};
use sea_orm::sqlx;
use simulators::messages::Faults;
use std::time::{Duration, Instant};

/// Messages that are sent and reported on, a part of the campaign.
const SAMPLE: i64 = 20_000;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// The share of the updates that need no index, while messages of a campaign that is being sent are delivered.
pub async fn measure(arena: &Arena, campaign: i32, recipients: i64) -> Result<()> {
    let sample = SAMPLE.min(recipients / 8);
    let (before, first, began) = (arena.updates().await?, delivered(arena, campaign).await?, Instant::now());
    arena.faults(&Faults { texts: false, ..Faults::default() }).await?;
    while delivered(arena, campaign).await? < first + sample {
        ensure!(began.elapsed() < PATIENCE, "{sample} messages are not delivered");
        tokio::time::sleep(PAUSE).await;
    }
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

/// By the totals: nobody reads millions of rows for it.
async fn delivered(arena: &Arena, campaign: i32) -> Result<i64> {
    let delivered = "select coalesce(sum(messages), 0)::bigint
                     from (select campaign, status, messages from campaign_totals
                           union all select campaign, status, messages from campaign_deltas) t
                     where campaign = $1 and status = 5";
    Ok(sqlx::query_scalar(delivered).bind(campaign).fetch_one(&arena.pool).await?)
}
