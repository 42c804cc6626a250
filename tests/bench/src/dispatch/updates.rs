//! `update_1k`: 1,000 reports that are kept become states of messages, with all that follows from them.

use super::{Arena, webhooks};
use crate::figure::{Figure, median};
use anyhow::{Result, ensure};
use sea_orm::sqlx;
use sms_dispatch::reports::Reports;
use std::time::Instant;

const REPORTS: usize = 1_000;
const ROUNDS: usize = 5;

/// By this process, which has the service's own code, while no other runs: the time is that of the work alone.
pub async fn measure(arena: &Arena, campaign: i32) -> Result<()> {
    let reports = Reports::new(arena.pool.clone());
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let messages = webhooks::accepted(arena, campaign, REPORTS).await?;
        ensure!(messages.len() == REPORTS, "only {} messages are with the provider", messages.len());
        let bodies: Vec<String> = messages
            .iter()
            .map(|(message, attempt, phone)| {
                webhooks::delivered(*message, *attempt, phone, "https://lote.mx")
            })
            .collect();
        sqlx::query(
            "insert into provider_reports (provider, url, body) select 'telnyx', '', unnest($1::text[])",
        )
        .bind(&bodies)
        .execute(&arena.pool)
        .await?;
        let began = Instant::now();
        while reports.statuses().await? {}
        times.push(began.elapsed().as_secs_f64() * 1e3);
        let positions: Vec<i32> = messages.iter().map(|(message, ..)| message.position).collect();
        let applied: i64 = sqlx::query_scalar(
            "select count(*) from messages where campaign = $1 and position = any($2) and state = 5",
        )
        .bind(campaign)
        .bind(positions)
        .fetch_one(&arena.pool)
        .await?;
        ensure!(applied == i64::try_from(REPORTS)?, "{applied} of {REPORTS} are delivered");
    }
    Figure::new("dispatch", "update_1k", median(times.clone()), "ms")
        .n(REPORTS)
        .number("worst_ms", times.into_iter().fold(0.0, f64::max))
        .print();
    Ok(())
}
