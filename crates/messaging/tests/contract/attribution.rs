//! Whose result is whose: confirms, refusals and returns of many callers at once.

use anyhow::{Context as _, Result, ensure};
use contracts::{Queue, Transport};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use messaging::{Broker, Destination, Outgoing, PublishError};

use crate::harness::*;

static MISSING: Queue = Queue { name: "test.missing", transport: Transport::Amqp, events: &[] };
static FULL: Queue = Queue { name: "test.full", transport: Transport::Amqp, events: &[] };

const TASKS: usize = 8;
const RUNS: usize = 20;
const BATCH: usize = 30;

/// Makes [`FULL`] with room for one message, and fills it.
async fn fill(rig: &Rig) -> Result<()> {
    let url = rig.config.amqp_url.as_deref().context("an address")?;
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".as_bytes().into()));
    let name = format!("{}{}", rig.config.prefix, FULL.name);
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.as_str().into(), durable, arguments).await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let confirm =
        channel.basic_publish("".into(), name.as_str().into(), options, b"full", properties).await?;
    ensure!(confirm.await?.is_ack(), "there is room for one");
    connection.close(200, "done".into()).await?;
    Ok(())
}

fn to(queue: &Queue, task: &str) -> Result<Outgoing> {
    let mut message = command(task)?;
    message.destination = Destination::Queue(queue.name.into());
    Ok(message)
}

/// Publishes batches of messages for the three queues, mixed. Returns how many went to the existing one.
async fn publish(broker: Broker, task: usize) -> Result<usize> {
    let mut taken = 0;
    for run in 0..RUNS {
        let queues: Vec<_> = (0..BATCH).map(|n| [&WORK, &MISSING, &FULL][(n + task + run) % 3]).collect();
        let messages = queues.iter().map(|queue| to(queue, &format!("{task} {run}")));
        let results = broker.publish(&messages.collect::<Result<Vec<_>>>()?).await;
        for (queue, result) in queues.iter().zip(results) {
            let right = match &result {
                Ok(()) => queue.name == WORK.name,
                Err(PublishError::Unroutable(_)) => queue.name == MISSING.name,
                Err(PublishError::Unavailable(reason)) => queue.name == FULL.name && reason.contains("full"),
                Err(PublishError::Refused { .. }) => false,
            };
            ensure!(right, "task {task}, run {run}, a message to {}: {result:?}", queue.name);
            taken += usize::from(result.is_ok());
        }
    }
    Ok(taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_gets_its_own_result() -> Result<()> {
    let rig = Rig::new(Transport::Amqp).await?;
    fill(&rig).await?;
    // Known to this process, and never made.
    drop(messaging::Consumer::new(&rig.broker, &MISSING));
    drop(messaging::Consumer::new(&rig.broker, &FULL));
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(publish(rig.broker.clone(), task))).collect();
    let mut taken = 0;
    for task in tasks {
        taken += within(task).await???;
    }
    assert_eq!(rig.broker.depth(&WORK).await?.ready, taken as u64);
    Ok(())
}
