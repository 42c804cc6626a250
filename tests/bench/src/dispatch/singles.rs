//! Single messages before what waits in bulk.

use super::Arena;
use crate::figure::{Figure, percentile};
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use simulators::messages::Accepted;
use sms_dispatch::domain::callback::Callback;
use stack::platform::Client;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Between two single messages: they are not to wait for each other.
const EVERY: Duration = Duration::from_millis(100);
/// How long one may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many milliseconds each of so many single messages took from its request to the provider's acceptance.
pub async fn latencies(arena: &Arena, many: usize) -> Result<Vec<f64>> {
    let from = arena.summary().await?.accepted;
    let mut ticks = tokio::time::interval(EVERY);
    let mut sending = Vec::new();
    for number in 0..many {
        ticks.tick().await;
        sending.push(tokio::spawn(send(arena.client.clone(), number)));
    }
    let mut asked: HashMap<Uuid, DateTime<Utc>> = HashMap::new();
    for one in sending {
        let (id, at) = one.await??;
        asked.insert(id, at);
    }
    let (mut place, mut times, began) = (from, Vec::new(), Instant::now());
    while times.len() < many {
        let page: Vec<Accepted> = arena.provider.accepted(place).await?;
        place += page.len();
        for message in &page {
            let callback = Callback::parse(&message.callback_url).context("a callback of ours")?;
            if let Some(at) = asked.get(&callback.message) {
                times.push((message.at - *at).as_seconds_f64() * 1e3);
            }
        }
        ensure!(began.elapsed() < PATIENCE, "{} of {many} single messages went", times.len());
        if page.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(times)
}

async fn send(client: Client, number: usize) -> Result<(Uuid, DateTime<Utc>)> {
    let message: Value =
        json!({ "to": format!("55{:08}", 10_000_000 + number), "text": format!("Su código es {number}") });
    let at = Utc::now();
    let answer = client.post("/api/v1/messages", &message).await?;
    ensure!(answer.status == 202, "{answer}");
    Ok((answer.body["id"].as_str().context("an id")?.parse()?, at))
}

/// `priority_added`: p99 from the request for a single message until the provider has it, while a campaign sends and the rest of
/// it waits; floor: the same while nothing waits.
pub fn print(times: Vec<f64>, idle: Vec<f64>, waiting: i64) {
    let (value, floor) = (percentile(times.clone(), 99.0), percentile(idle.clone(), 99.0));
    Figure::new("dispatch", "priority_added", value, "ms p99")
        .floor_of_time(floor)
        .n(times.len())
        .number("p50", percentile(times, 50.0))
        .number("idle_p50", percentile(idle, 50.0))
        .number("added", value - floor)
        .with("waiting", json!(waiting))
        .print();
}
