//! What is there, who makes it, and what is done where it is there with other settings.

use anyhow::{Context as _, Result};
use contracts::{QUEUES, Queue, Transport, queues};
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use messaging::{Broker, DeclareError, Destination, TopologyKeeper};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::*;

async fn channel(rig: &Rig) -> Result<(Connection, Channel)> {
    let url = rig.config.amqp_url.as_deref().context("an address")?;
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// Keeps queues in place until the guard is dropped.
fn keep(broker: &Broker, queues: &[&'static Queue]) -> DropGuard {
    let shutdown = CancellationToken::new();
    tokio::spawn(TopologyKeeper::new(broker.clone(), queues).run(shutdown.clone()));
    shutdown.drop_guard()
}

async fn all_are_there(broker: &Broker) -> Result<()> {
    until("all queues are there", async || {
        for queue in QUEUES {
            if broker.depth(queue).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_makes_the_queues_of_all() -> Result<()> {
    let rig = Rig::bare(Transport::Amqp).await?;
    let _keeper = keep(&rig.broker, QUEUES);
    all_are_there(&rig.broker).await?;
    // An event waits for a subscriber that was never started.
    let mut event = command("early")?;
    event.destination = Destination::Event("catalog.import_completed.v1".into());
    until("its queue, which was made first, is bound", async || {
        Ok(rig.broker.publish(std::slice::from_ref(&event)).await.remove(0).is_ok())
    })
    .await?;
    until("it waits", async || Ok(rig.broker.depth(&queues::GATEWAY_EVENTS).await?.ready == 1)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_made_once_the_broker_is_there() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    let (proxy, late) = rig.behind_proxy().await?;
    proxy.cut().await;
    let _keeper = keep(&late, QUEUES);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    proxy.heal().await;
    all_are_there(&late).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_comes_back_while_no_worker_runs() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    let _keeper = keep(&rig.broker, &[&WORK, &queues::GATEWAY_EVENTS]);
    let mut event = command("event")?;
    event.destination = Destination::Event("catalog.import_completed.v1".into());
    until("the keeper has begun", async || {
        Ok(rig.broker.publish(std::slice::from_ref(&event)).await.remove(0).is_ok())
    })
    .await?;
    let (_connection, channel) = channel(&rig).await?;
    for (queue, message) in [(WORK.name, command("command")?), (queues::GATEWAY_EVENTS.name, event)] {
        let name = format!("{}{queue}", rig.config.prefix);
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
        until("a message finds its queue again", async || {
            Ok(rig.broker.publish(std::slice::from_ref(&message)).await.remove(0).is_ok())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_settings_is_named_and_used_and_the_rest_is_made() -> Result<()> {
    let rig = Rig::bare(Transport::Amqp).await?;
    let (_connection, channel) = channel(&rig).await?;
    // As an earlier version may have made it.
    let name = format!("{}{}", rig.config.prefix, queues::GATEWAY_EVENTS.name);
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".as_bytes().into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.as_str().into(), durable, arguments).await?;

    let failed = rig.broker.declare(QUEUES).await.err().context("other settings")?;
    let DeclareError::OtherSettings { queue, said } = failed else { anyhow::bail!("{failed}") };
    assert_eq!(queue, queues::GATEWAY_EVENTS.name);
    assert!(said.contains(&name) && said.contains("x-"), "it says which queue and which setting: {said}");
    all_are_there(&rig.broker).await?;

    // Bound and consumed as it is.
    let mut event = command("old queue")?;
    event.destination = Destination::Event("catalog.import_completed.v1".into());
    rig.broker.publish(&[event]).await.remove(0)?;
    let (tell, mut reports) = reports();
    let consumer = consume_from(&rig.broker, &queues::GATEWAY_EVENTS, quick(), move |task, _| {
        let _ = tell.send(task);
        async { Ok(()) }
    });
    assert_eq!(reports.next().await?, "old queue");
    consumer.stop().await
}
