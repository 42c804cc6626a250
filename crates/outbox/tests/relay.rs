//! The outbox against a real PostgreSQL and RabbitMQ.

mod common;

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use chrono::{DateTime, Utc};
use common::{Recorder, World, nudge};
use messaging::{Destination, Envelope, Outgoing};
use outbox::{Meta, Relay};
use sea_orm::sqlx::{self, postgres::PgListener};
use stack::proxy::Proxy;
use uuid::Uuid;

const WAITING: &str = "SELECT count(*) FROM outbox";

#[tokio::test(flavor = "multi_thread")]
async fn committed_rows_are_published_and_rolled_back_ones_never() -> Result<()> {
    let world = World::new("outbox_commit").await?;
    let broker = world.broker().await?;
    let recorder = Recorder::default();
    world.consume(&broker, recorder.clone());
    tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));

    let mut expected = BTreeSet::new();
    for round in 0..20 {
        let mut rolled_back = world.pool.begin().await?;
        outbox::publish(&mut rolled_back, "test", &nudge(&format!("rolled back {round}")), Meta::default())
            .await?;
        rolled_back.rollback().await?;
        expected.insert(world.publish(&format!("committed {round}")).await?);
    }
    // The last one is behind all others: when it is here, they are.
    recorder.until_delivered(20).await?;
    world.until_count(WAITING, 0).await?;
    assert_eq!(recorder.ids().len(), 20, "each once: nothing went wrong");
    assert_eq!(recorder.ids().into_iter().collect::<BTreeSet<_>>(), expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_out_says_what_it_is_about() -> Result<()> {
    let world = World::new("outbox_meta").await?;
    let cause = Uuid::now_v7();
    let meta = Meta {
        subject: Some("task 1".into()),
        correlation_id: Some("request 7".into()),
        causation_id: Some(cause),
    };
    let mut transaction = world.pool.begin().await?;
    let messages = vec![(nudge("1"), meta), (nudge("2"), Meta::default())];
    let ids = outbox::publish_all(&mut transaction, "test", messages).await?;
    transaction.commit().await?;

    let rows: Vec<(Uuid, String, String, String)> =
        sqlx::query_as("SELECT message_id, destination, kind, body FROM outbox ORDER BY id")
            .fetch_all(&world.pool)
            .await?;
    assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ids);
    let (id, destination, kind, body) = &rows[0];
    assert_eq!(destination, "queue:catalog.imports");
    assert_eq!(kind, "lote.catalog.v1.ProcessImport");
    let envelope: Envelope = serde_json::from_str(body)?;
    assert_eq!(envelope.id, *id);
    assert_eq!(envelope.source, "/lote/test");
    assert_eq!(envelope.subject.as_deref(), Some("task 1"));
    assert_eq!(envelope.correlation_id.as_deref(), Some("request 7"));
    assert_eq!(envelope.causation_id, Some(cause));
    assert_eq!(envelope.data, serde_json::json!({"taskId": "1"}));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_share_the_work() -> Result<()> {
    let world = World::new("outbox_two").await?;
    let broker = world.broker().await?;
    let recorder = Recorder::default();
    let mut expected = BTreeSet::new();
    for round in 0..8 {
        let mut transaction = world.pool.begin().await?;
        let messages = (0..500).map(|n| (nudge(&format!("{round} {n}")), Meta::default())).collect();
        expected.extend(outbox::publish_all(&mut transaction, "test", messages).await?);
        transaction.commit().await?;
    }
    tokio::spawn(Relay::new(world.pool.clone(), broker.clone()).run(world.shutdown.clone()));
    tokio::spawn(Relay::new(world.pool.clone(), world.broker().await?).run(world.shutdown.clone()));
    world.until_count(WAITING, 0).await?;
    world.consume(&broker, recorder.clone());
    recorder.until_delivered(4000).await?;
    assert_eq!(recorder.ids().into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(recorder.ids().len(), 4000, "no row was published by both");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_fill_a_batch_by_their_bytes_all_go_out() -> Result<()> {
    let world = World::new("outbox_large").await?;
    let broker = world.broker().await?;
    let recorder = Recorder::default();
    // Small ones, some of which a batch has room for one of, and one that is larger than a batch may be.
    let sizes = [1, 5 << 20, 5 << 20, 9 << 20, 1, 5 << 20, 1];
    let mut transaction = world.pool.begin().await?;
    let messages = sizes.map(|size| (nudge(&"x".repeat(size)), Meta::default())).into();
    let expected = outbox::publish_all(&mut transaction, "test", messages).await?;
    transaction.commit().await?;
    tokio::spawn(Relay::new(world.pool.clone(), broker.clone()).run(world.shutdown.clone()));
    world.until_count(WAITING, 0).await?;
    world.consume(&broker, recorder.clone());
    recorder.until_delivered(sizes.len()).await?;
    assert_eq!(recorder.ids().len(), sizes.len(), "each once");
    assert_eq!(recorder.ids().into_iter().collect::<BTreeSet<_>>(), expected.into_iter().collect());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_outlast_a_broker_that_is_away() -> Result<()> {
    let world = World::new("outbox_away").await?;
    let (proxy, url) = Proxy::before(&world.namespace.servers().amqp_url).await?;
    let broker = world.broker_at(&url).await?;
    let recorder = Recorder::default();
    world.consume(&world.broker().await?, recorder.clone());
    tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));
    world.publish("before").await?;
    recorder.until_delivered(1).await?;

    proxy.cut().await;
    let mut expected: BTreeSet<Uuid> = recorder.ids().into_iter().collect();
    for n in 0..50 {
        expected.insert(world.publish(&format!("during {n}")).await?);
    }
    // These need no broker to be found wrong. Each shows that the relay has been at work again since.
    for n in 1..=3 {
        sqlx::query(
            "INSERT INTO outbox (destination, message_id, kind, body) VALUES ('nonsense', $1, '', '')",
        )
        .bind(Uuid::now_v7())
        .execute(&world.pool)
        .await?;
        world
            .until_count("SELECT count(*) FROM outbox WHERE destination = 'nonsense' AND attempts > 0", n)
            .await?;
    }
    let untouched = "SELECT count(*) FROM outbox WHERE destination <> 'nonsense' AND attempts = 0";
    assert_eq!(world.count(untouched).await?, 50, "an outage is no fault of the rows");

    proxy.heal().await;
    world.until_count("SELECT count(*) FROM outbox WHERE destination <> 'nonsense'", 0).await?;
    recorder.until_delivered(51).await?;
    assert_eq!(recorder.ids().into_iter().collect::<BTreeSet<_>>(), expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_nobody_takes_stay_with_their_error_and_block_none() -> Result<()> {
    let world = World::new("outbox_unroutable").await?;
    let broker = world.broker().await?;
    let recorder = Recorder::default();
    world.consume(&broker, recorder.clone());
    let unroutable: Vec<_> = (0..600)
        .map(|_| Outgoing {
            destination: Destination::Queue("nowhere.at_all".into()),
            id: Uuid::now_v7(),
            kind: "test".into(),
            body: "{}".into(),
        })
        .collect();
    let mut transaction = world.pool.begin().await?;
    outbox::enqueue(&mut transaction, &unroutable).await?;
    transaction.commit().await?;
    world.publish("routable").await?;
    let rows = "SELECT id, message_id, kind, body, created_at FROM outbox WHERE kind = 'test' ORDER BY id";
    let before: Vec<(i64, Uuid, String, String, DateTime<Utc>)> =
        sqlx::query_as(rows).fetch_all(&world.pool).await?;
    tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));

    recorder.until_delivered(1).await?;
    world.until_count("SELECT count(*) FROM outbox WHERE attempts > 0 AND next_at > created_at", 600).await?;
    let error: String =
        sqlx::query_scalar("SELECT DISTINCT last_error FROM outbox").fetch_one(&world.pool).await?;
    assert!(error.contains("queue:nowhere.at_all"), "{error}");
    // And it is tried again, later each time.
    world.until_count("SELECT count(*) FROM outbox WHERE attempts > 1", 600).await?;
    // But for that, the rows are what they were.
    assert_eq!(before, sqlx::query_as(rows).fetch_all(&world.pool).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_hints_those_who_listen_to_its_schema() -> Result<()> {
    let world = World::new("outbox_hint").await?;
    let mut listener = PgListener::connect_with(&world.pool).await?;
    let channel: String =
        sqlx::query_scalar("SELECT 'outbox_' || current_schema()").fetch_one(&world.pool).await?;
    listener.listen(&channel).await?;
    // Hints are rationed in this process, which other tests use too: one of these gets its turn.
    let publish = async {
        loop {
            world.publish("hint").await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let hinted = tokio::time::timeout(common::PATIENCE, async {
        tokio::select! {
            notification = listener.recv() => notification.map_err(anyhow::Error::from),
            failed = publish => failed,
        }
    });
    assert_eq!(hinted.await??.channel(), channel);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_is_counted_and_the_doctor_sees_what_is_stuck() -> Result<()> {
    let world = World::new("outbox_doctor").await?;
    assert_eq!(outbox::backlog(&world.pool).await?, (0, 0.0));
    assert_eq!(outbox::doctor(&world.pool).await?, Vec::<String>::new());
    world.publish("stuck").await?;
    world.publish("fresh").await?;
    assert_eq!(outbox::doctor(&world.pool).await?, Vec::<String>::new(), "waiting a little is no finding");
    sqlx::query("UPDATE outbox SET created_at = now() - interval '100 s', last_error = 'no queue takes it' WHERE id = 1")
        .execute(&world.pool)
        .await?;
    let (waiting, oldest_age) = outbox::backlog(&world.pool).await?;
    assert_eq!(waiting, 2);
    assert!((100.0..160.0).contains(&oldest_age), "{oldest_age}");
    let findings = outbox::doctor(&world.pool).await?;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains("1 rows to queue:catalog.imports"), "{findings:?}");
    assert!(findings[0].contains("no queue takes it"), "{findings:?}");
    Ok(())
}
