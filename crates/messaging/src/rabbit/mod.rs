//! RabbitMQ, 3.10 to 4.x. lapin's own recovery stays off: a channel or a connection that has failed is
//! dropped and made again, whatever the failure was.

mod acks;
mod headers;
mod letters;
mod link;
mod publisher;
mod source;
mod topology;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use contracts::Queue;
use lapin::{Connection, options::BasicQosOptions};
use tokio::sync::Notify;

pub(crate) use letters::LetterSource;
pub(crate) use publisher::{Failed, Frame};
pub(crate) use source::{Source, Token};

use crate::{Backoff, Depth};
use link::{Link, OwnChannel};
use publisher::Publisher;
use topology::Topology;

/// How long opening a consumer, declaring a queue or looking at one may take. A stalled network is otherwise noticed
/// by the missing heartbeats only.
const PATIENCE: Duration = Duration::from_secs(10);

/// One broker: a connection to publish, and another to do all else. When the broker runs short of memory it blocks
/// the connections that publish: acks, declarations and questions must not wait behind that.
pub(crate) struct Rabbit {
    service: String,
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
    consuming: Arc<Link>,
}

impl Rabbit {
    /// `incomplete` is told when the broker turns out to lack something that was declared.
    ///
    /// # Errors
    /// An address that is not valid.
    pub fn new(url: &str, service: &str, prefix: &str, incomplete: Arc<Notify>) -> anyhow::Result<Self> {
        let publishing = Link::new(url, &format!("{service} publisher"))?;
        Ok(Self {
            service: service.to_owned(),
            publisher: Arc::new(Publisher::new(publishing, incomplete)),
            topology: Arc::new(Topology::new(prefix)),
            consuming: Arc::new(Link::new(url, &format!("{service} consumer"))?),
        })
    }

    /// Makes a queue with all that belongs to it but its retry queues. Returns what the broker has with other
    /// settings.
    pub async fn declare(&self, queue: &Queue) -> anyhow::Result<Vec<String>> {
        let connection = self.consuming.connection().await?;
        self.in_time(&connection, self.topology.declare(&connection, queue, &BTreeSet::new())).await
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
        let tiers = backoff.pauses();
        let connection = self.consuming.connection().await?;
        let opening = async {
            let channel = self.channel(&connection, queue, &tiers, prefetch).await?;
            Source::start(channel, queue, &tiers, &self.topology, &self.publisher, &self.consuming).await
        };
        self.in_time(&connection, opening).await
    }

    pub async fn letters(&self, queue: &'static Queue, prefetch: u16) -> anyhow::Result<LetterSource> {
        let connection = self.consuming.connection().await?;
        let opening = async {
            let channel = self.channel(&connection, queue, &BTreeSet::new(), prefetch).await?;
            LetterSource::start(channel, queue, &self.topology).await
        };
        self.in_time(&connection, opening).await
    }

    /// A channel to consume on, with what it consumes from in place. A queue with other settings is consumed as it
    /// is: it holds messages.
    async fn channel(
        &self,
        connection: &Connection,
        queue: &'static Queue,
        tiers: &BTreeSet<Duration>,
        prefetch: u16,
    ) -> anyhow::Result<OwnChannel> {
        for other in self.topology.declare(connection, queue, tiers).await? {
            tracing::warn!(queue = queue.name, %other, "the queue is consumed as it is");
        }
        let channel = OwnChannel::new(connection.create_channel().await?);
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        Ok(channel)
    }

    pub async fn depth(&self, queue: &Queue) -> anyhow::Result<Depth> {
        let connection = self.consuming.connection().await?;
        let looking = async {
            let channel = connection.create_channel().await?;
            let ready = topology::count(&channel, &self.topology.work(queue.name)).await?;
            let dead = topology::count(&channel, &self.topology.dead(queue.name)).await?;
            link::leave(&channel).await;
            Ok(Depth { ready, in_flight: 0, dead, oldest_age: None })
        };
        self.in_time(&connection, looking).await
    }

    pub async fn ping(&self) -> anyhow::Result<()> {
        let channel = self.consuming.connection().await?.create_channel().await?;
        link::leave(&channel).await;
        self.publisher.blocked().await
    }

    /// What takes too long on a connection ends alone: the connection is given up, and with it all consumers, only
    /// if it does not answer at all.
    async fn in_time<T>(
        &self,
        connection: &Arc<Connection>,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(done) => done,
            Err(_) => {
                let (link, connection) = (self.consuming.clone(), connection.clone());
                tokio::spawn(async move { link.suspect(&connection).await });
                anyhow::bail!("RabbitMQ did not answer within {} s", PATIENCE.as_secs())
            }
        }
    }
}
