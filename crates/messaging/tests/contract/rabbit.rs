//! What only RabbitMQ can do.

use anyhow::{Context as _, Result, anyhow};
use contracts::Transport;
use futures::StreamExt as _;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueueDeleteOptions},
    types::FieldTable,
};
use messaging::{JobError, Policy};

use crate::harness::*;

pub async fn channel(rig: &Rig) -> Result<(Connection, Channel)> {
    let url = rig.config.amqp_url.as_deref().context("an address")?;
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

pub fn physical(rig: &Rig, suffix: &str) -> String {
    format!("{}{}{suffix}", rig.config.prefix, WORK.name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_its_workers_is_given_up_by_the_broker() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    let id = rig.send("poison").await?;
    let (_connection, channel) = channel(&rig).await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let work = physical(&rig, "");
    let mut consumer =
        channel.basic_consume(work.as_str().into(), "".into(), options, FieldTable::default()).await?;
    let mut letters = rig.broker.letters(&WORK);
    let mut deliveries = 0;
    let letter = within(async {
        loop {
            tokio::select! {
                letter = letters.next() => return anyhow::Ok(letter),
                Some(delivery) = consumer.next() => {
                    deliveries += 1;
                    delivery?.reject(BasicRejectOptions { requeue: true }).await?;
                }
            }
        }
    })
    .await??;
    assert_eq!(deliveries, 21, "the limit, and the first");
    assert_eq!((letter.reason.as_str(), letter.id), ("delivery_limit", Some(id)));
    letter.ack().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_never_end_are_limited_by_the_policy() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    rig.send("crashes").await?;
    let (connection, channel) = channel(&rig).await?;
    let work = physical(&rig, "");
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(work.as_str().into(), "".into(), options, FieldTable::default()).await?;
    for _ in 0..3 {
        let delivery = within(consumer.next()).await?.context("a delivery")??;
        delivery.reject(BasicRejectOptions { requeue: true }).await?;
    }
    connection.close(200, "crashed".into()).await?;
    let running = rig.consume(Policy { max_attempts: 2, ..quick() }, |_, _| async { Ok(()) });
    let letter = rig.letter().await?;
    assert_eq!(letter.reason, "attempts");
    assert!(letter.error.contains("no attempt came to an end"), "{}", letter.error);
    letter.ack().await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_queues_are_made_again() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    let (tell, mut reports) = reports();
    let consumer = rig.consume(quick(), move |task, context| {
        let _ = tell.send((task, context.attempt));
        async move { if context.attempt == 1 { Err(JobError::retry(anyhow!("once"))) } else { Ok(()) } }
    });
    rig.send("before").await?;
    assert_eq!(reports.take(2).await?, [("before".into(), 1), ("before".into(), 2)]);
    rig.empty().await?;
    let (_connection, channel) = channel(&rig).await?;
    let delete = async |suffix: &str| {
        let name = physical(&rig, suffix);
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await
    };
    // Nobody tells the consumer that its retry queue is gone.
    delete(".retry.60ms").await?;
    rig.send("meanwhile").await?;
    assert_eq!(reports.take(2).await?, [("meanwhile".into(), 1), ("meanwhile".into(), 2)]);
    rig.empty().await?;
    delete(".dead").await?;
    delete("").await?;
    // The broker cancels the consumer, and its supervisor declares again.
    let message = command("after")?;
    until("the queue is back", async || {
        Ok(rig.broker.publish(std::slice::from_ref(&message)).await.remove(0).is_ok())
    })
    .await?;
    assert_eq!(reports.take(2).await?, [("after".into(), 1), ("after".into(), 2)]);
    rig.empty().await?;
    consumer.stop().await
}

/// A message may go round through the retry queues as often as it likes: the broker must not take that for
/// a cycle and drop it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rounds_through_one_retry_queue() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    let (tell, mut reports) = reports();
    let steps = vec![std::time::Duration::from_millis(20)];
    let policy = Policy { max_attempts: 30, backoff: messaging::Backoff { steps }, ..quick() };
    let consumer = rig.consume(policy, move |_, context| {
        let _ = tell.send(context.attempt);
        async move { if context.attempt < 30 { Err(JobError::retry(anyhow!("again"))) } else { Ok(()) } }
    });
    rig.send("round").await?;
    assert_eq!(reports.take(30).await?, (1..=30).collect::<Vec<_>>());
    rig.empty().await?;
    consumer.stop().await
}

/// A handler outlives its connection and keeps its place. What was fetched for that place would wait for the handler's
/// end, hours maybe, and nobody else would get it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_do_not_wait_behind_handlers_that_lost_their_connection() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    let (proxy, flaky) = rig.behind_proxy().await?;
    let (tell, mut reports) = reports();
    let (release, released) = tokio::sync::watch::channel("");
    let first = consume(&flaky, Policy { concurrency: 2, ..quick() }, {
        let tell = tell.clone();
        move |task, _| {
            let _ = tell.send(("first", task.clone()));
            let mut released = released.clone();
            async move {
                released.wait_for(|tasks| tasks.contains(&task)).await.map_err(JobError::fail)?;
                Ok(())
            }
        }
    });
    rig.send("a").await?;
    assert_eq!(reports.next().await?, ("first", "a".into()));
    proxy.cut().await;
    proxy.heal().await;
    assert_eq!(reports.next().await?, ("first", "a".into()), "delivered again, to the other hand");
    // Both hands are full.
    rig.send("b").await?;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let second = rig.consume(quick(), move |task, _| {
        let _ = tell.send(("second", task));
        async { Ok(()) }
    });
    assert_eq!(reports.next().await?, ("second", "b".into()));
    second.stop().await?;
    // Both are free, and both are used again.
    release.send_replace("a");
    rig.empty().await?;
    for task in ["c", "d"] {
        rig.send(task).await?;
        assert_eq!(reports.next().await?, ("first", task.into()));
    }
    release.send_replace("acd");
    rig.empty().await?;
    first.stop().await?;
    assert!(reports.rest().is_empty());
    Ok(())
}
