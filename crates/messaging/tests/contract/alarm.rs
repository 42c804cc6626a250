//! A RabbitMQ that is short of memory: it takes no messages, and gives none twice that it need not.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use contracts::Transport;
use messaging::{Broker, BrokerConfig, PublishError};
use stack::{Stack, proxy::Proxy};

use crate::harness::*;

/// Longer than two calls may wait for their confirms.
const ALARM: Duration = Duration::from_secs(25);
const ROWS: usize = 40;

/// What those are told who ask while it is known that the broker takes nothing: nothing is written.
const BLOCKED: &str = "short of memory";
/// Who asked before that has written its row, which waits in a socket: it is published when the alarm ends, beside its repetition.
const WRITTEN: &str = "no confirm within";
/// Or found all channels taken by those who have written theirs, and has written nothing.
const NO_TURN: &str = "did not answer within";

/// Publishes a row until it is confirmed, as the outbox does. Returns the reasons why it was not.
async fn relay(broker: Broker, row: usize) -> Result<Vec<String>> {
    let message = command(&row.to_string())?;
    let mut reasons = Vec::new();
    loop {
        match broker.publish(std::slice::from_ref(&message)).await.remove(0) {
            Ok(()) => return Ok(reasons),
            Err(PublishError::Unavailable(reason)) => reasons.push(reason),
            Err(other) => return Err(other.into()),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_costs_no_connection_and_at_most_one_duplicate_a_row() -> Result<()> {
    stack::install_tls();
    collect_traces();
    let dir = stack::home().join(format!("alarm-{}", stack::random_hex(3)));
    let node = Stack::start_rabbit(&dir).await?;
    let (proxy, url) = Proxy::before(&node.rabbit.url()).await?;
    let transports = [(WORK.name.to_owned(), Transport::Amqp)].into();
    let config =
        BrokerConfig { service: "test".into(), amqp_url: Some(url), transports, ..Default::default() };
    let broker = Broker::new(config)?;
    broker.declare(&[&WORK]).await?;
    // The connection that publishes is open before the alarm.
    broker.publish(&[command("before")?]).await.remove(0)?;

    node.rabbit.raise_memory_alarm().await?;
    let since = Instant::now();
    let rows: Vec<_> = (0..ROWS).map(|row| tokio::spawn(relay(broker.clone(), row))).collect();
    until("the broker says so", async || {
        let blocked = broker.publish(&[command("probe")?]).await.remove(0);
        Ok(matches!(blocked, Err(PublishError::Unavailable(reason)) if reason.contains(BLOCKED)))
    })
    .await?;
    assert!(broker.ping().await.iter().any(|(_, answer)| answer.is_err()), "readiness tells");
    assert!(broker.depth(&WORK).await.is_ok(), "questions are answered all the same");
    tokio::time::sleep(ALARM.saturating_sub(since.elapsed())).await;
    node.rabbit.clear_memory_alarm().await?;
    let mut most = Vec::new();
    for row in rows {
        let reasons = within(row).await???;
        let is = |reason: &String, what: &str| reason.contains(what);
        // Only a first request can have come before the broker said so.
        let first = reasons
            .first()
            .is_none_or(|reason| is(reason, BLOCKED) || is(reason, WRITTEN) || is(reason, NO_TURN));
        ensure!(first && reasons.iter().skip(1).all(|reason| is(reason, BLOCKED)), "{reasons:?}");
        most.push(1 + reasons.iter().filter(|reason| is(reason, WRITTEN)).count());
    }
    assert!(proxy.accepted() <= 2, "{} connections", proxy.accepted());

    let (tell, mut reports) = reports();
    let consumer = consume(&broker, quick(), move |task, _| {
        let _ = tell.send(task);
        async { Ok(()) }
    });
    until("all is consumed", async || Ok(broker.depth(&WORK).await?.ready == 0)).await?;
    consumer.stop().await?;
    let mut deliveries = BTreeMap::<String, usize>::new();
    for task in reports.rest() {
        *deliveries.entry(task).or_default() += 1;
    }
    for (row, most) in most.into_iter().enumerate() {
        let times = deliveries.get(&row.to_string()).copied().context("a row is lost")?;
        assert!(times <= most, "row {row} came {times} times, and was written {most} times");
    }
    node.remove().await
}
