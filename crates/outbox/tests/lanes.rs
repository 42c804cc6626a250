//! How the relay shares itself out among destinations, against real servers.

mod common;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use anyhow::{Context as _, Result};
use common::{Recorder, World};
use contracts::{QUEUES, Queue, Transport};
use messaging::{Broker, Destination, Outgoing, SqsConfig};
use outbox::{Meta, Relay};
use sea_orm::sqlx;
use stack::proxy::Proxy;
use tokio::time::Instant;
use uuid::Uuid;

const fn queue(name: &'static str, transport: Transport) -> Queue {
    Queue { name, transport, events: &[] }
}

// Before `catalog.imports`, in the order of their names.
static STALLED: [Queue; 6] = [
    queue("a.stalled1", Transport::Sqs),
    queue("a.stalled2", Transport::Sqs),
    queue("a.stalled3", Transport::Sqs),
    queue("a.stalled4", Transport::Sqs),
    queue("a.stalled5", Transport::Sqs),
    queue("a.stalled6", Transport::Sqs),
];
static BUSY: [Queue; 5] = [
    queue("a.busy1", Transport::Amqp),
    queue("a.busy2", Transport::Amqp),
    queue("a.busy3", Transport::Amqp),
    queue("a.busy4", Transport::Amqp),
    queue("a.busy5", Transport::Amqp),
];

async fn enqueue(world: &World, queue: &Queue) -> Result<()> {
    let message = Outgoing {
        destination: Destination::Queue(queue.name.into()),
        id: Uuid::now_v7(),
        kind: "test".into(),
        body: "{}".into(),
    };
    let mut transaction = world.pool.begin().await?;
    outbox::enqueue(&mut transaction, &[message]).await?;
    Ok(transaction.commit().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_destinations_however_many_hold_up_no_other() -> Result<()> {
    let world = World::new("lanes_stalled").await?;
    let servers = world.namespace.servers();
    let (proxy, endpoint) = Proxy::before(&servers.aws_endpoint).await?;
    let physical = |queue: &Queue| format!("{}{}", world.namespace.sqs_prefix, queue.name.replace('.', "-"));
    let mut config = world.broker_config(&servers.amqp_url);
    config.sqs = Some(SqsConfig {
        endpoint: Some(endpoint),
        names: STALLED
            .iter()
            .map(|queue| (queue.name.to_owned(), physical(queue)))
            .collect::<HashMap<_, _>>(),
        create: true,
        ..SqsConfig::default()
    });
    let broker = Broker::new(config)?;
    broker.declare(QUEUES).await?;
    broker.declare(&STALLED.iter().collect::<Vec<_>>()).await?;
    let recorder = Recorder::default();
    world.consume(&broker, recorder.clone());

    proxy.stall().await;
    for queue in &STALLED {
        enqueue(&world, queue).await?;
    }
    tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));
    // More than one round of it: while all are new, and while all are known to be away.
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut sent = 0;
    while started.elapsed() < Duration::from_secs(12) {
        let published = Instant::now();
        world.publish("healthy").await?;
        sent += 1;
        recorder.until_delivered(sent).await?;
        slowest = slowest.max(published.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(slowest < Duration::from_secs(3), "a healthy destination's row took {slowest:?}");
    let waiting = world.count("SELECT count(DISTINCT destination) FROM outbox").await?;
    assert_eq!(waiting, STALLED.len() as i64, "the others are stalled");

    proxy.heal().await;
    world.until_count("SELECT count(*) FROM outbox", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_destinations_however_many_hold_up_no_other() -> Result<()> {
    let world = World::new("lanes_busy").await?;
    let broker = world.broker().await?;
    broker.declare(&BUSY.iter().collect::<Vec<_>>()).await?;
    let recorder = Recorder::default();
    world.consume(&broker, recorder.clone());
    for queue in &BUSY {
        sqlx::query(
            "INSERT INTO outbox (destination, message_id, kind, body)
             SELECT $1, gen_random_uuid(), 'test', '{}' FROM generate_series(1, 20000)",
        )
        .bind(Destination::Queue(queue.name.into()).to_string())
        .execute(&world.pool)
        .await?;
    }
    world.publish("healthy").await?;
    tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));
    recorder.until_delivered(1).await?;
    let busy = "SELECT count(DISTINCT destination) FROM outbox WHERE destination LIKE 'queue:a.busy%'";
    assert_eq!(world.count(busy).await?, BUSY.len() as i64, "none had to end first");
    // And among themselves they advance together.
    let spread: i64 = sqlx::query_scalar(
        "SELECT max(n) - min(n) FROM (SELECT count(*) AS n FROM outbox GROUP BY destination) AS each",
    )
    .fetch_one(&world.pool)
    .await?;
    assert!(spread <= 4 * 500, "they are {spread} rows apart");
    Ok(())
}

/// Rows that are kept from other relays without a transaction.
const LEASED: &str = "SELECT count(*) FROM outbox WHERE next_at > now() + interval '10 s' AND attempts = 0";
const IN_TRANSACTION: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE usename = current_user AND state = 'idle in transaction'";

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_confirmed_late_is_sent_once_and_holds_no_transaction() -> Result<()> {
    let world = World::new("lanes_late").await?;
    let (proxy, url) = Proxy::before(&world.namespace.servers().amqp_url).await?;
    let broker = world.broker_at(&url).await?;
    let recorder = Recorder::default();
    world.consume(&world.broker().await?, recorder.clone());
    proxy.stall().await;
    let mut transaction = world.pool.begin().await?;
    let messages = (0..20).map(|n| (common::nudge(&n.to_string()), Meta::default())).collect();
    let expected: BTreeSet<_> =
        outbox::publish_all(&mut transaction, "test", messages).await?.into_iter().collect();
    transaction.commit().await?;
    tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));
    world.until_count(LEASED, 20).await?;
    world.until_count(IN_TRANSACTION, 0).await?;
    // Another relay leaves them alone.
    tokio::spawn(Relay::new(world.pool.clone(), world.broker().await?).run(world.shutdown.clone()));
    world.publish("another").await?;
    recorder.until_delivered(1).await?;

    proxy.heal().await;
    world.until_count("SELECT count(*) FROM outbox", 0).await?;
    recorder.until_delivered(21).await?;
    assert_eq!(recorder.ids().len(), 21, "each once");
    assert!(expected.is_subset(&recorder.ids().into_iter().collect()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_late_batch_come_back_in_their_order_when_the_broker_gives_up() -> Result<()> {
    let world = World::new("lanes_given_back").await?;
    let (proxy, url) = Proxy::before(&world.namespace.servers().amqp_url).await?;
    let broker = world.broker_at(&url).await?;
    proxy.stall().await;
    world.publish("1").await?;
    let relay = tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));
    world.until_count(LEASED, 1).await?;
    proxy.cut().await;
    world.until_count("SELECT count(*) FROM outbox WHERE next_at = created_at AND attempts = 0", 1).await?;
    world.shutdown.cancel();
    Ok(relay.await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_relay_that_dies_while_it_waits_are_sent_by_another() -> Result<()> {
    let world = World::new("lanes_dead").await?;
    let (proxy, url) = Proxy::before(&world.namespace.servers().amqp_url).await?;
    let broker = world.broker_at(&url).await?;
    let recorder = Recorder::default();
    world.consume(&world.broker().await?, recorder.clone());
    proxy.stall().await;
    let id = world.publish("1").await?;
    let relay = tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));
    world.until_count(LEASED, 1).await?;
    relay.abort();
    tokio::spawn(Relay::new(world.pool.clone(), world.broker().await?).run(world.shutdown.clone()));
    world.until_count("SELECT count(*) FROM outbox", 0).await?;
    recorder.until_delivered(1).await?;
    assert_eq!(recorder.ids(), [id]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_can_never_be_sent_stay_with_the_reason_and_block_none() -> Result<()> {
    let world = World::new("lanes_never").await?;
    let broker = world.broker().await?;
    let recorder = Recorder::default();
    world.consume(&broker, recorder.clone());
    let insert =
        "INSERT INTO outbox (destination, message_id, kind, body) VALUES ($1, $2, $3, repeat('x', $4))";
    let (long, events) = ("k".repeat(300), format!("event:{}", "e".repeat(300)));
    for (destination, kind, size) in [
        ("nonsense", "test", 1),
        (&events, "test", 1),
        ("queue:catalog.imports", "test", 16 * 1024 * 1024 + 1),
        ("queue:catalog.imports", &long, 1),
    ] {
        let row = sqlx::query(insert).bind(destination).bind(Uuid::now_v7()).bind(kind).bind(size);
        row.execute(&world.pool).await?;
    }
    let good = world.publish("good").await?;
    tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));
    recorder.until_delivered(1).await?;
    assert_eq!(recorder.ids(), [good]);
    world.until_count("SELECT count(*) FROM outbox WHERE last_error IS NOT NULL", 3).await?;
    world.until_count("SELECT count(*) FROM outbox", 3).await?;
    let errors: Vec<String> =
        sqlx::query_scalar("SELECT last_error FROM outbox ORDER BY id").fetch_all(&world.pool).await?;
    for (error, part) in errors.iter().zip(["unknown destination", "300 bytes", "16777217 bytes"]) {
        assert!(error.contains(part), "{error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_row_cannot_hold_is_refused_and_the_transaction_goes_on() -> Result<()> {
    let world = World::new("lanes_nul").await?;
    let message = |destination: &str, kind: &str, body: &'static [u8]| Outgoing {
        destination: Destination::Queue(destination.into()),
        id: Uuid::now_v7(),
        kind: kind.into(),
        body: body.into(),
    };
    let mut transaction = world.pool.begin().await?;
    for bad in [message("a", "b", b"{\0}"), message("a", "b", b"\xff"), message("a\0", "b", b"{}")] {
        let error = outbox::enqueue(&mut transaction, &[bad]).await.err().context("it is refused")?;
        assert!(matches!(error, outbox::Error::Unstorable { .. }), "{error}");
    }
    outbox::enqueue(&mut transaction, &[message("a", "b\0", b"{}")]).await?;
    transaction.commit().await?;
    let kind: String = sqlx::query_scalar("SELECT kind FROM outbox").fetch_one(&world.pool).await?;
    assert_eq!(kind, "b\u{fffd}");
    Ok(())
}
