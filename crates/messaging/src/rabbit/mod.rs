//! RabbitMQ, 3.10 to 4.x. lapin's own recovery stays off: a channel or a connection that has failed is
//! dropped and made anew, whatever the failure was.

mod acks;
mod headers;
mod letters;
mod link;
mod publisher;
mod source;
mod topology;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use contracts::Queue;
use lapin::options::BasicQosOptions;

pub(crate) use letters::{LetterReceipt, LetterSource};
pub(crate) use publisher::{Failed, Frame};
pub(crate) use source::{Source, Token};

use crate::{Backoff, Depth};
use link::{Link, OwnChannel};
use publisher::Publisher;
use topology::Topology;

/// How long opening a consumer or looking at a queue may take. A stalled network is otherwise noticed by the
/// missing heartbeats only.
const PATIENCE: Duration = Duration::from_secs(10);

/// One broker: a connection to publish, another to consume. When the broker runs short of memory it
/// blocks the connections that publish, and acks must not wait behind them.
pub(crate) struct Rabbit {
    service: String,
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
    consuming: Arc<Link>,
}

impl Rabbit {
    /// # Errors
    /// An address that is none.
    pub fn new(url: &str, service: &str, prefix: &str) -> anyhow::Result<Self> {
        let topology = Arc::new(Topology::new(prefix));
        let publishing = Link::new(url, &format!("{service} publisher"))?;
        Ok(Self {
            service: service.to_owned(),
            publisher: Arc::new(Publisher::new(publishing, topology.clone())),
            topology,
            consuming: Arc::new(Link::new(url, &format!("{service} consumer"))?),
        })
    }

    pub async fn declare(&self, queues: &[&'static Queue]) -> anyhow::Result<()> {
        self.topology.remember(queues);
        let channel = self.publisher.channel().await?;
        drop(channel);
        tokio::time::timeout(PATIENCE, async {
            let channel = self.publisher.side_channel().await?;
            for queue in queues {
                self.topology.declare(&channel, queue, &BTreeSet::new()).await?;
            }
            link::leave(&channel).await;
            Ok(())
        })
        .await?
    }

    pub async fn publish(&self, frames: Vec<Frame>) -> Vec<Result<(), Failed>> {
        self.publisher.publish(frames).await
    }

    /// A message to a queue.
    pub fn to_queue(&self, queue: &str, message: &crate::Outgoing) -> Frame {
        self.frame("", &self.topology.work(queue), true, message)
    }

    /// An event. Without a subscriber it may go nowhere; with one, that must not pass unnoticed.
    pub fn to_events(&self, key: &str, subscribed: bool, message: &crate::Outgoing) -> Frame {
        self.frame(&self.topology.exchange(), key, subscribed, message)
    }

    fn frame(&self, exchange: &str, key: &str, mandatory: bool, message: &crate::Outgoing) -> Frame {
        let properties = headers::properties(message.id, &message.kind, &self.service);
        Frame {
            exchange: exchange.into(),
            key: key.into(),
            mandatory,
            properties,
            body: message.body.clone(),
        }
    }

    /// Opens a consumer: one channel of its own, so that a broker's timeout on one consumer's delivery
    /// does not requeue those of another.
    pub async fn open(
        &self,
        queue: &'static Queue,
        prefetch: u16,
        backoff: &Backoff,
    ) -> anyhow::Result<Source> {
        let tiers: BTreeSet<Duration> = backoff.steps.iter().copied().collect();
        let opened = tokio::time::timeout(PATIENCE, async {
            let channel = OwnChannel::new(self.consuming.connection().await?.create_channel().await?);
            self.topology.declare(&channel, queue, &tiers).await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            Source::start(channel, queue, tiers, &self.topology, &self.publisher).await
        })
        .await;
        self.kept_or_dropped(opened).await
    }

    pub async fn letters(&self, queue: &'static Queue, prefetch: u16) -> anyhow::Result<LetterSource> {
        let opened = tokio::time::timeout(PATIENCE, async {
            let channel = OwnChannel::new(self.consuming.connection().await?.create_channel().await?);
            self.topology.declare(&channel, queue, &BTreeSet::new()).await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            LetterSource::start(channel, queue, &self.topology).await
        })
        .await;
        self.kept_or_dropped(opened).await
    }

    /// A connection on which something timed out is not to be trusted: the next attempt makes a new one.
    async fn kept_or_dropped<T>(
        &self,
        opened: Result<anyhow::Result<T>, tokio::time::error::Elapsed>,
    ) -> anyhow::Result<T> {
        match opened {
            Ok(opened) => opened,
            Err(elapsed) => {
                self.consuming.discard().await;
                Err(anyhow::Error::new(elapsed).context("RabbitMQ does not answer"))
            }
        }
    }

    pub async fn depth(&self, queue: &Queue) -> anyhow::Result<Depth> {
        tokio::time::timeout(PATIENCE, async {
            let channel = self.publisher.side_channel().await?;
            let ready = topology::count(&channel, &self.topology.work(queue.name)).await?;
            let dead = topology::count(&channel, &self.topology.dead(queue.name)).await?;
            link::leave(&channel).await;
            Ok(Depth { ready, in_flight: 0, dead, oldest_age: None })
        })
        .await?
    }

    pub async fn ping(&self) -> anyhow::Result<()> {
        let channel = self.publisher.side_channel().await?;
        link::leave(&channel).await;
        Ok(())
    }
}
