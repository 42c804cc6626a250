//! What is measured beside a campaign to all contacts, most of which waits.

use super::{Arena, PATIENCE, ledger, pace, people, singles, states, updates, webhooks};
use crate::figure::{Figure, percentile};
use crate::numbers;
use anyhow::{Context, Result, ensure};
use sea_orm::sqlx;
use serde_json::json;
use stack::platform::sending;
use stack::services::SMS_DISPATCH;
use std::path::Path;
use std::time::{Duration, Instant};

/// Messages a second of the campaign meanwhile.
const RATE: i64 = 200;
/// Messages that are with the provider before anything else is measured.
const SENT: usize = 6_000;
/// Requests of `totals`, and single messages of `priority_added`.
const REQUESTS: usize = 300;
const SINGLES: usize = 300;

pub async fn measure(mut arena: Arena, dir: &Path, wanted: &impl Fn(&str) -> bool) -> Result<()> {
    let imported = numbers::rows()? <= people::IMPORTED;
    if imported {
        import(&arena, dir).await?;
    } else {
        people::insert(&arena, numbers::rows()?).await?;
    }
    // Before anything waits.
    let idle = match wanted("priority_added") {
        true => singles::latencies(&arena, SINGLES).await?,
        false => Vec::new(),
    };
    let mut plan = sending::plan(&json!({}));
    plan["per_minute"] = json!(RATE * 60);
    let began = Instant::now();
    let id = sending::start(&arena.client, "Todos", "cobranza", &plan).await?;
    let number = arena.number(&id).await?;
    let recipients = prepared(&arena, number).await?;
    eprintln!("{recipients} messages are written in {:.1} s", began.elapsed().as_secs_f64());
    if wanted("ledger_1m") {
        // The campaign sends beside the floor, slowly; beside its own ledger it did not.
        sending::act(&arena.client, &id, "pause").await?;
        ledger::print(&arena, number, recipients, imported).await?;
        sending::act(&arena.client, &id, "resume").await?;
    }
    if wanted("heap_only") {
        states::measure(&arena, number, recipients).await?;
    }
    if wanted("priority_added") {
        let times = singles::latencies(&arena, SINGLES).await?;
        singles::print(times, idle, waiting(&arena, number).await?);
    }
    if wanted("totals") {
        totals(&arena, &id, recipients).await?;
    }
    if wanted("pause") {
        pace::pauses(&arena, &id).await?;
    }
    if wanted("webhook") || wanted("update_1k") {
        let sent = "select count(*) from messages where campaign = $1 and state = 3";
        stack::wait::until("some messages should be with the provider", PATIENCE, async || {
            let sent = sqlx::query_scalar::<_, i64>(sent).bind(number).fetch_one(&arena.pool).await;
            sent.is_ok_and(|sent| sent >= SENT as i64)
        })
        .await?;
    }
    if wanted("webhook") {
        webhooks::measure(&arena, number).await?;
        stack::wait::until("more messages should be with the provider", PATIENCE, async || {
            webhooks::accepted(&arena, number, SENT).await.is_ok_and(|some| some.len() >= SENT)
        })
        .await?;
    }
    if wanted("peak_memory") {
        let bytes = arena.worker()?.daemon().peak_memory().context("VmHWM")?;
        Figure::new("dispatch", "peak_memory", bytes as f64 / 1e6, "MB")
            .n(usize::try_from(recipients)?)
            .print();
    }
    if wanted("update_1k") {
        arena.platform.service(&SMS_DISPATCH).kill_workers().await?;
        arena.platform.service_mut(&SMS_DISPATCH).api.kill().await?;
        updates::measure(&arena, number).await?;
    }
    arena.end().await
}

/// Imports the contacts from a dirty numeros.db, as a user would.
async fn import(arena: &Arena, dir: &Path) -> Result<()> {
    let file = dir.join("numeros.db");
    numbers::database(&file).await?;
    let service = arena.platform.service(&SMS_DISPATCH).api.service();
    let path = file.to_str().context("a path")?;
    let (status, said) = service.with_args(&["import", path]).run().await?;
    ensure!(status.success(), "import: {status}\n{said}");
    std::fs::remove_file(&file)?;
    sqlx::query("analyze contacts").execute(&arena.pool).await?;
    Ok(())
}

/// Waits until a campaign's ledger is written. Gives how many recipients it has.
async fn prepared(arena: &Arena, number: i32) -> Result<i64> {
    stack::wait::until("the ledger should be written", PATIENCE, async || {
        let state = "select state from campaigns where number = $1";
        let state = sqlx::query_scalar::<_, String>(state).bind(number).fetch_one(&arena.pool).await;
        state.is_ok_and(|state| state != "preparing")
    })
    .await?;
    let recipients = "select recipients from campaigns where number = $1 and state = 'running'";
    let recipients = sqlx::query_scalar(recipients).bind(number).fetch_one(&arena.pool).await;
    recipients.context("the campaign does not run")
}

async fn waiting(arena: &Arena, number: i32) -> Result<i64> {
    let waiting = "select count(*) from messages where campaign = $1 and state = 0";
    Ok(sqlx::query_scalar(waiting).bind(number).fetch_one(&arena.pool).await?)
}

/// `totals`: p95 of the progress of a campaign that is being sent.
async fn totals(arena: &Arena, id: &str, recipients: i64) -> Result<()> {
    let path = format!("{}/{id}/progress", sending::CAMPAIGNS);
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let began = Instant::now();
        let answer = arena.direct.get(&path).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        let sum: i64 = answer.body["messages"]
            .as_object()
            .with_context(|| format!("{answer}"))?
            .values()
            .filter_map(serde_json::Value::as_i64)
            .sum();
        ensure!(sum == recipients, "the totals come to {sum}, not {recipients}: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Figure::new("dispatch", "totals", percentile(times.clone(), 95.0), "ms p95")
        .n(usize::try_from(recipients)?)
        .number("p50", percentile(times.clone(), 50.0))
        .number("max", percentile(times, 100.0))
        .print();
    Ok(())
}
