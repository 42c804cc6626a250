//! Names and properties of queues. Each property is explicit, because the defaults differ between
//! RabbitMQ 3.10 and 4.x, and a queue can't be redeclared with other properties.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use contracts::{EVENTS_EXCHANGE, Queue};
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

/// Deliveries that ended without a settlement (crashes, lost connections) before the broker itself gives
/// a message up. Our own retries are new messages and start at zero.
const DELIVERY_LIMIT: i64 = 20;
/// For dead-letter queues: a quorum queue drops what exceeds its limit if it has nowhere to send it to, and
/// 4.x sets a limit of 20 where none is given. 3.10 refuses -1 (none), so: more than can ever happen.
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;
/// Dead letters stay in their source until they are confirmed, so a queue needs a bound. Publishers are
/// refused beyond it, and keep what they have.
const MAX_LENGTH: i64 = 5_000_000;

/// What exists under a prefix.
pub(crate) struct Topology {
    prefix: String,
    /// What this process declared, to declare again for a broker that has lost it.
    declared: Mutex<Vec<&'static Queue>>,
}

impl Topology {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), declared: Mutex::default() }
    }

    pub fn exchange(&self) -> String {
        format!("{}{EVENTS_EXCHANGE}", self.prefix)
    }

    pub fn work(&self, queue: &str) -> String {
        format!("{}{queue}", self.prefix)
    }

    pub fn dead(&self, queue: &str) -> String {
        format!("{}{queue}.dead", self.prefix)
    }

    pub fn tier(&self, queue: &str, pause: Duration) -> String {
        format!("{}{queue}.retry.{}ms", self.prefix, pause.as_millis())
    }

    pub fn remember(&self, queues: &[&'static Queue]) {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in queues {
            if !declared.contains(queue) {
                declared.push(queue);
            }
        }
    }

    pub async fn declare_remembered(&self, channel: &Channel) -> anyhow::Result<()> {
        let declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for queue in declared {
            self.declare(channel, queue, &BTreeSet::new()).await?;
        }
        Ok(())
    }

    /// Makes a queue, its dead-letter queue, its bindings, and the retry queues of these pauses.
    pub async fn declare(
        &self,
        channel: &Channel,
        queue: &Queue,
        tiers: &BTreeSet<Duration>,
    ) -> anyhow::Result<()> {
        let (work, dead) = (self.work(queue.name), self.dead(queue.name));
        let limit = |limit| ("x-delivery-limit", AMQPValue::LongLongInt(limit));
        make(channel, &dead, vec![limit(NO_DELIVERY_LIMIT)]).await?;
        let mut arguments = dead_lettering_to(&dead);
        arguments.push(limit(DELIVERY_LIMIT));
        make(channel, &work, arguments).await?;
        for pause in tiers {
            // A message expires only at the head of its queue, so all in one tier wait about as long.
            // No `x-expires`: it would delete the queue with the messages that wait in it.
            let mut arguments = dead_lettering_to(&work);
            let ttl = i64::try_from(pause.as_millis()).context("a pause of millions of years")?;
            arguments.push(("x-message-ttl", AMQPValue::LongLongInt(ttl)));
            make(channel, &self.tier(queue.name, *pause), arguments).await?;
        }
        let exchange = self.exchange();
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await
            .with_context(|| format!("exchange {exchange} can't be declared"))?;
        for key in queue.events {
            channel
                .queue_bind(
                    work.as_str().into(),
                    exchange.as_str().into(),
                    (*key).into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .with_context(|| format!("{work} can't be bound to {key}"))?;
        }
        Ok(())
    }
}

/// At-least-once dead-lettering needs all of these; without `reject-publish` it is at most once.
///
/// On 3.10, a queue of this kind that is deleted in the very moment after its declaration takes the node's
/// supervisor of dead-lettering with it: from then on no such queue gets a leader, and declarations fail with
/// `541 INTERNAL_ERROR` until the node restarts (or
/// `rabbitmqctl eval 'supervisor:restart_child(rabbit_sup, rabbit_fifo_dlx_sup).'`). Nothing here deletes queues.
fn dead_lettering_to(queue: &str) -> Vec<(&'static str, AMQPValue)> {
    let text = |text: &str| AMQPValue::LongString(text.as_bytes().into());
    vec![
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(queue)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        ("x-max-length", AMQPValue::LongLongInt(MAX_LENGTH)),
    ]
}

async fn make(channel: &Channel, name: &str, extra: Vec<(&'static str, AMQPValue)>) -> anyhow::Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(b"quorum".as_slice().into()));
    for (key, value) in extra {
        arguments.insert(key.into(), value);
    }
    channel
        .queue_declare(name.into(), QueueDeclareOptions { durable: true, ..Default::default() }, arguments)
        .await
        .with_context(|| format!("queue {name} can't be declared"))?;
    Ok(())
}

/// Messages in a queue that wait to be delivered. A queue that is not there closes the channel.
pub(crate) async fn count(channel: &Channel, name: &str) -> anyhow::Result<u64> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel
        .queue_declare(name.into(), options, FieldTable::default())
        .await
        .with_context(|| format!("queue {name} can't be looked at"))?;
    Ok(u64::from(queue.message_count()))
}
