//! A queue that confirms nothing, on a connection that answers.

use std::time::Duration;

use anyhow::{Result, ensure};
use contracts::{Queue, Transport};
use futures::future::join_all;
use messaging::{Broker, BrokerConfig, Destination, Outgoing, PublishError};
use stack::Stack;

use crate::harness::*;

static OTHER: Queue = Queue { name: "test.other", transport: Transport::Amqp, events: &[] };

/// More than a publisher has channels.
const CALLS: usize = 40;
/// Two waits of 10 s, and time to see what they came to.
const FREE_WITHIN: Duration = Duration::from_secs(40);

fn to(queue: &Queue, task: &str) -> Result<Outgoing> {
    Ok(Outgoing { destination: Destination::Queue(queue.name.into()), ..command(task)? })
}

async fn publish(broker: &Broker, queue: &Queue) -> Result<Vec<Result<(), PublishError>>> {
    let messages = (0..CALLS).map(|number| to(queue, &number.to_string())).collect::<Result<Vec<_>>>()?;
    let calls = messages.iter().map(|message| broker.publish(std::slice::from_ref(message)));
    Ok(join_all(calls).await.into_iter().map(|mut results| results.remove(0)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_confirms_nothing_does_not_keep_others_from_theirs() -> Result<()> {
    stack::install_tls();
    let dir = stack::home().join(format!("stuck-{}", stack::random_hex(3)));
    let node = Stack::start_rabbit(&dir).await?;
    let config =
        BrokerConfig { service: "test".into(), amqp_url: Some(node.rabbit.url()), ..Default::default() };
    let broker = Broker::new(config)?;
    let work = Queue { name: WORK.name, transport: Transport::Amqp, events: &[] };
    let work: &'static Queue = Box::leak(Box::new(work));
    broker.declare(&[work, &OTHER]).await?;
    for published in publish(&broker, work).await? {
        published?;
    }

    // As after a deletion under its channels: RabbitMQ routes to it, and nothing comes of that.
    let member = format!("{{'%2F_{}', node()}}", work.name);
    node.rabbit.control(&["eval", &format!("sys:suspend({member}).")]).await?;
    for refused in publish(&broker, work).await? {
        ensure!(matches!(refused, Err(PublishError::Unavailable(_))), "{refused:?}");
    }
    let message = to(&OTHER, "free")?;
    stack::wait::until("another queue should be published to", FREE_WITHIN, async || {
        broker.publish(std::slice::from_ref(&message)).await.remove(0).is_ok()
    })
    .await?;

    node.rabbit.control(&["eval", &format!("sys:resume({member}).")]).await?;
    let message = to(work, "again")?;
    stack::wait::until("the queue should be published to again", FREE_WITHIN, async || {
        broker.publish(std::slice::from_ref(&message)).await.remove(0).is_ok()
    })
    .await?;
    drop(broker);
    node.remove().await
}
