//! Names and properties of queues. Each property is explicit, because the defaults differ between
//! RabbitMQ 3.10 and 4.x, and a queue can't be redeclared with other properties.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use contracts::{EVENTS_EXCHANGE, Queue};
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};

use super::link;

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
}

impl Topology {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
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

    /// Makes a queue, its dead-letter queue, its bindings, and the retry queues of these pauses. What the broker
    /// has under one of these names with other settings stays as it is, and the rest is made. Returns what the
    /// broker said to that, a line each.
    pub async fn declare(
        &self,
        connection: &Connection,
        queue: &Queue,
        tiers: &BTreeSet<Duration>,
    ) -> anyhow::Result<Vec<String>> {
        let mut others = Vec::new();
        let mut channel = connection.create_channel().await?;
        for declaration in self.declarations(queue, tiers)? {
            match declaration.declare(&channel).await {
                Ok(()) => {}
                Err(error) if has_other_settings(&error) => {
                    others.push(error.to_string());
                    // The refusal has closed the channel.
                    channel = connection.create_channel().await?;
                }
                Err(error) => return Err(error).with_context(|| format!("{declaration} can't be declared")),
            }
        }
        link::leave(&channel).await;
        Ok(others)
    }

    /// What belongs to a queue, each after what it refers to.
    fn declarations(&self, queue: &Queue, tiers: &BTreeSet<Duration>) -> anyhow::Result<Vec<Declaration>> {
        let (work, dead, exchange) = (self.work(queue.name), self.dead(queue.name), self.exchange());
        let limit = |limit| ("x-delivery-limit", AMQPValue::LongLongInt(limit));
        let mut all = vec![Declaration::queue(&dead, vec![limit(NO_DELIVERY_LIMIT)])];
        let mut arguments = dead_lettering_to(&dead);
        arguments.push(limit(DELIVERY_LIMIT));
        all.push(Declaration::queue(&work, arguments));
        for pause in tiers {
            // A message expires only at the head of its queue, so all in one tier wait about as long.
            // No `x-expires`: it would delete the queue with the messages that wait in it.
            let mut arguments = dead_lettering_to(&work);
            let ttl = i64::try_from(pause.as_millis()).context("a pause of millions of years")?;
            arguments.push(("x-message-ttl", AMQPValue::LongLongInt(ttl)));
            all.push(Declaration::queue(&self.tier(queue.name, *pause), arguments));
        }
        all.push(Declaration::Exchange(exchange.clone()));
        all.extend(queue.events.iter().map(|key| Declaration::Binding {
            queue: work.clone(),
            exchange: exchange.clone(),
            key,
        }));
        Ok(all)
    }
}

/// One thing that the broker is to have.
enum Declaration {
    Queue { name: String, arguments: FieldTable },
    Exchange(String),
    Binding { queue: String, exchange: String, key: &'static str },
}

impl Declaration {
    /// A quorum queue.
    fn queue(name: &str, extra: Vec<(&'static str, AMQPValue)>) -> Self {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(b"quorum".as_slice().into()));
        for (key, value) in extra {
            arguments.insert(key.into(), value);
        }
        Self::Queue { name: name.to_owned(), arguments }
    }

    async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        match self {
            Self::Queue { name, arguments } => {
                let durable = QueueDeclareOptions { durable: true, ..Default::default() };
                channel.queue_declare(name.as_str().into(), durable, arguments.clone()).await.map(drop)
            }
            Self::Exchange(name) => {
                let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
                let none = FieldTable::default();
                channel.exchange_declare(name.as_str().into(), ExchangeKind::Topic, durable, none).await
            }
            Self::Binding { queue, exchange, key } => {
                let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
                let options = QueueBindOptions::default();
                channel.queue_bind(queue, exchange, (*key).into(), options, FieldTable::default()).await
            }
        }
    }
}

impl std::fmt::Display for Declaration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Queue { name, .. } => write!(f, "queue {name}"),
            Self::Exchange(name) => write!(f, "exchange {name}"),
            Self::Binding { queue, key, .. } => write!(f, "the binding of {queue} to {key}"),
        }
    }
}

/// Whether the broker refused because it has such a thing with other settings (406, or 405 where a queue of that
/// name belongs to another connection).
fn has_other_settings(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(
        error.kind(),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::RESOURCELOCKED)
    )
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

/// Messages in a queue that wait to be delivered. A queue that is not there closes the channel.
pub(crate) async fn count(channel: &Channel, name: &str) -> anyhow::Result<u64> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel
        .queue_declare(name.into(), options, FieldTable::default())
        .await
        .with_context(|| format!("queue {name} can't be looked at"))?;
    Ok(u64::from(queue.message_count()))
}
