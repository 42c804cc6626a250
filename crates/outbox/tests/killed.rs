//! What a process that dies between two steps leaves behind. A panic at a failpoint stands for its death:
//! the transaction, or the broker's channel, is dropped as it is. Failpoints are the process's, hence a
//! binary of its own; without the feature `failpoints/enabled` there is nothing to test.

mod common;

use anyhow::Result;
use common::{Recorder, World};
use contracts::{catalog::v1::ProcessImport, queues::CATALOG_IMPORTS};
use failpoints::Point;
use messaging::{Broker, Envelope, Outgoing};
use outbox::{Meta, Relay, dead_letters::Archiver};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_dies_before_it_deletes_publishes_again() -> Result<()> {
    if !fail::has_failpoints() {
        return Ok(());
    }
    let world = World::new("outbox_killed").await?;
    let broker = world.broker().await?;
    let recorder = Recorder::default();
    world.consume(&broker, recorder.clone());
    let mut transaction = world.pool.begin().await?;
    let messages = (0..10).map(|n| (common::nudge(&n.to_string()), Meta::default())).collect();
    let expected = outbox::publish_all(&mut transaction, "test", messages).await?;
    transaction.commit().await?;

    fail::cfg(Point::RelayPublished.name(), "1*panic").map_err(anyhow::Error::msg)?;
    tokio::spawn(Relay::new(world.pool.clone(), broker).run(world.shutdown.clone()));
    world.until_count("SELECT count(*) FROM outbox", 0).await?;
    recorder.until_delivered(20).await?;
    let mut seen = recorder.ids();
    seen.sort_unstable();
    let mut twice = [expected.clone(), expected].concat();
    twice.sort_unstable();
    assert_eq!(seen, twice, "published before the death and after it, under the same ids");
    Ok(())
}

/// Straight to the broker: the relay's failpoint is the other test's.
async fn send(broker: &Broker, task: &str) -> Result<()> {
    let envelope = Envelope::new("test", &common::nudge(task))?;
    for result in broker.publish(&[Outgoing::new::<ProcessImport>(&envelope)?]).await {
        result?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_whose_archiver_dies_before_the_ack_is_archived_once() -> Result<()> {
    if !fail::has_failpoints() {
        return Ok(());
    }
    let world = World::new("letters_killed").await?;
    let broker = world.broker().await?;
    world.consume(&broker, Recorder::default());
    send(&broker, "bad").await?;

    fail::cfg(Point::LetterArchived.name(), "1*panic").map_err(anyhow::Error::msg)?;
    let archiver = || Archiver::new(world.pool.clone(), broker.clone(), &[&CATALOG_IMPORTS]);
    let first = tokio::spawn(archiver().run(world.shutdown.clone()));
    assert!(first.await.is_err_and(|error| error.is_panic()));
    assert_eq!(world.count("SELECT count(*) FROM dead_letters").await?, 1);

    tokio::spawn(archiver().run(world.shutdown.clone()));
    stack::wait::until("the letter is acknowledged", common::PATIENCE, || async {
        broker.depth(&CATALOG_IMPORTS).await.is_ok_and(|depth| depth.dead == 0)
    })
    .await?;
    // Behind it comes another, so the archiver has been past the first when this one is there.
    send(&broker, "bad too").await?;
    world.until_count("SELECT count(*) FROM dead_letters WHERE body LIKE '%bad too%'", 1).await?;
    assert_eq!(world.count("SELECT count(*) FROM dead_letters WHERE state = 'open'").await?, 2);
    Ok(())
}
