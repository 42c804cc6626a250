//! What becomes of a message when the broker does not take its settlement.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use contracts::{Transport, Transport::Sqs};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use messaging::{Broker, JobError, Policy};

use crate::{contract, harness::*, rabbit, sqs};

/// Longer than a message stays invisible by itself.
const SETTLE_WITHIN: Duration = Duration::from_secs(3);

fn policy() -> Policy {
    Policy { concurrency: 2, settle_within: SETTLE_WITHIN, max_attempts: 20, ..quick() }
}

contract!(good_messages_pass_poison_whose_dead_letter_queue_was_deleted: Amqp, Sqs);
async fn good_messages_pass_poison_whose_dead_letter_queue_was_deleted(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    // Nobody may make queues but who has the right to.
    let mut config = rig.config.clone();
    if let Some(sqs) = &mut config.sqs {
        sqs.create = false;
    }
    let (tell, mut reports) = reports();
    let consumer = consume(&Broker::new(config)?, policy(), move |task, context| {
        let _ = tell.send((task.clone(), context.attempt, Instant::now()));
        async move { if task.starts_with("poison") { Err(JobError::fail(anyhow!("poison"))) } else { Ok(()) } }
    });
    rig.send("before").await?;
    assert_eq!(reports.next().await?.0, "before");
    if transport == Sqs {
        let (client, url) = sqs::client(&rig).await?;
        client.delete_queue().queue_url(format!("{url}-dlq")).send().await?;
    } else {
        let (_connection, channel) = rabbit::channel(&rig).await?;
        let dead = rabbit::physical(&rig, ".dead");
        channel.queue_delete(dead.as_str().into(), QueueDeleteOptions::default()).await?;
    }
    let mut began = BTreeMap::new();
    for poison in ["poison 1", "poison 2"] {
        rig.send(poison).await?;
    }
    for (task, attempt, at) in reports.take(2).await? {
        assert_eq!(attempt, 1);
        began.insert(task, at);
    }
    rig.send("good").await?;
    loop {
        let (task, attempt, at) = reports.next().await?;
        if task == "good" {
            break;
        }
        assert_eq!((transport, attempt), (Sqs, 2));
        let since = at - *began.get(&task).context("poison")?;
        // It was kept while it was being settled, and then postponed. Jitter takes at most a fifth away.
        assert!(since > SETTLE_WITHIN + SETTLE_WITHIN / 2, "{task} came again after {since:?}");
    }
    // Nothing is lost: what was given up ends in the dead letters once they are there again.
    rig.broker.declare(&[&WORK]).await?;
    until("both are dead letters", async || Ok(rig.broker.depth(&WORK).await?.dead == 2)).await?;
    rig.empty().await?;
    consumer.stop().await
}

/// Unsettled on an open channel, it would neither come again nor let go of its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_refuses_to_settle_goes_back_to_its_queue() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    let (tell, mut reports) = reports();
    let consumer = consume(&rig.broker, policy(), move |task, context| {
        let _ = tell.send((task.clone(), context.attempt));
        async move { if task == "poison" { Err(JobError::fail(anyhow!("poison"))) } else { Ok(()) } }
    });
    rig.send("before").await?;
    assert_eq!(reports.next().await?, ("before".into(), 1));
    // A dead-letter queue that is full.
    let (_connection, channel) = rabbit::channel(&rig).await?;
    let dead = rabbit::physical(&rig, ".dead");
    channel.queue_delete(dead.as_str().into(), QueueDeleteOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString(b"reject-publish".as_slice().into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(dead.as_str().into(), durable, arguments).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for _ in 0..2 {
        let options = BasicPublishOptions::default();
        let fill = BasicProperties::default();
        channel.basic_publish("".into(), dead.as_str().into(), options, b"fills it", fill).await?.await?;
    }
    rig.send("poison").await?;
    assert_eq!(reports.next().await?, ("poison".into(), 1));
    assert_eq!(reports.next().await?, ("poison".into(), 2), "it was put back");
    // What is settled around it is acknowledged as ever.
    for n in 0..20 {
        rig.send(&n.to_string()).await?;
    }
    let mut good = 0;
    while good < 20 {
        good += usize::from(reports.next().await?.0 != "poison");
    }
    channel.queue_delete(dead.as_str().into(), QueueDeleteOptions::default()).await?;
    // Its consumer makes it again, and buries the message there.
    until("the letter is there", async || {
        Ok(rig.broker.depth(&WORK).await.is_ok_and(|depth| (depth.ready, depth.dead) == (0, 1)))
    })
    .await?;
    consumer.stop().await?;
    rig.empty().await
}
