use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use contracts::Queue;
use failpoints::Point;
use futures::{FutureExt as _, StreamExt as _};
use lapin::{
    BasicProperties, Channel,
    message::Delivery as Delivered,
    options::{BasicCancelOptions, BasicConsumeOptions},
    types::FieldTable,
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

use super::{
    acks, headers,
    link::{self, Link, OwnChannel},
    publisher::{Failed, Frame, Publisher},
    topology::Topology,
};
use crate::delivery::{Delivery, SettleError, Token as AnyToken, Verdict, jitter};

/// How long leaving may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// How long making a queue again may take.
const DECLARE_WITHIN: Duration = Duration::from_secs(5);

/// A consumer on a channel of its own.
pub(crate) struct Source {
    channel: OwnChannel,
    consumer: lapin::Consumer,
    place: Arc<Place>,
    acknowledging: JoinHandle<()>,
    /// Why there is nothing more to come.
    ended: Option<anyhow::Error>,
}

/// What the deliveries of one source need to be settled.
struct Place {
    channel: Channel,
    queue: &'static Queue,
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
    /// To declare on.
    consuming: Arc<Link>,
    settled: UnboundedSender<u64>,
    work: String,
    dead: String,
    /// Retry queues by their pauses.
    tiers: Vec<(Duration, String)>,
}

impl Source {
    pub async fn start(
        channel: OwnChannel,
        queue: &'static Queue,
        tiers: &BTreeSet<Duration>,
        topology: &Arc<Topology>,
        publisher: &Arc<Publisher>,
        consuming: &Arc<Link>,
    ) -> anyhow::Result<Self> {
        let work = topology.work(queue.name);
        let consumer = channel
            .basic_consume(
                work.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .with_context(|| format!("{work} can't be consumed"))?;
        let (settled, receiver) = unbounded_channel();
        let acknowledging = tokio::spawn(acks::acknowledge(Channel::clone(&channel), receiver));
        let place = Arc::new(Place {
            channel: Channel::clone(&channel),
            queue,
            topology: topology.clone(),
            publisher: publisher.clone(),
            consuming: consuming.clone(),
            settled,
            dead: topology.dead(queue.name),
            tiers: tiers.iter().map(|pause| (*pause, topology.tier(queue.name, *pause))).collect(),
            work,
        });
        Ok(Self { channel, consumer, place, acknowledging, ended: None })
    }

    pub async fn receive(&mut self, most: usize) -> anyhow::Result<Vec<Delivery>> {
        if let Some(error) = self.ended.take() {
            return Err(error);
        }
        let mut deliveries = Vec::with_capacity(most.min(32));
        match self.consumer.next().await {
            Some(Ok(delivered)) => deliveries.push(self.delivery(delivered)),
            Some(Err(error)) => return Err(error.into()),
            None => anyhow::bail!("the broker cancelled the consumer"),
        }
        while deliveries.len() < most {
            match self.consumer.next().now_or_never() {
                None => break,
                Some(Some(Ok(delivered))) => deliveries.push(self.delivery(delivered)),
                Some(Some(Err(error))) => {
                    self.ended = Some(error.into());
                    break;
                }
                Some(None) => {
                    self.ended = Some(anyhow::anyhow!("the broker cancelled the consumer"));
                    break;
                }
            }
        }
        Ok(deliveries)
    }

    fn delivery(&self, delivered: Delivered) -> Delivery {
        let past = headers::past(&delivered.properties);
        let attempt = past.attempts.saturating_add(past.lost).saturating_add(1);
        Delivery {
            body: delivered.data.into(),
            attempt,
            first_failed_at: past.first_failed_at,
            token: AnyToken::Rabbit(Box::new(Token {
                tag: delivered.delivery_tag,
                attempt,
                properties: delivered.properties,
                place: self.place.clone(),
            })),
        }
    }

    pub async fn stop(&mut self) -> Vec<Delivery> {
        let cancel = self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        let mut left = Vec::new();
        // What can't be cancelled has ended; what it had taken, the broker gives to others.
        if matches!(tokio::time::timeout(LEAVE_WITHIN, cancel).await, Ok(Ok(()))) {
            while let Some(Some(Ok(delivered))) = self.consumer.next().now_or_never() {
                left.push(self.delivery(delivered));
            }
        }
        left
    }

    pub async fn close(self) {
        let Self { channel, place, acknowledging, .. } = self;
        drop(place);
        if tokio::time::timeout(LEAVE_WITHIN, acknowledging).await.is_err() {
            tracing::warn!("acknowledgements are not written out in time");
        }
        link::leave(&channel).await;
    }
}

/// A delivery on its channel.
pub(crate) struct Token {
    tag: u64,
    attempt: u32,
    properties: BasicProperties,
    place: Arc<Place>,
}

impl Token {
    pub async fn settle(&self, verdict: &Verdict, body: &Bytes) -> Result<(), SettleError> {
        // On a lost channel the message is with another already: to publish it too would double it.
        if !self.place.channel.status().connected() {
            return Err(SettleError::Lost("its channel has closed".into()));
        }
        match verdict {
            Verdict::Done => {}
            Verdict::Retry { failure, pause } => {
                let Some((_, tier)) = self.place.tiers.iter().find(|(tier, _)| tier == pause) else {
                    return Err(SettleError::Lost(format!("no retry queue of {} ms", pause.as_millis())));
                };
                let expiration = jitter(*pause).as_millis().to_string();
                let properties = headers::again(&self.properties, failure.attempts, Some(failure))
                    .with_expiration(expiration.into());
                self.publish(tier, properties, body).await?;
                failpoints::hit(Point::RetryPublished);
            }
            Verdict::Dead(failure) => {
                let properties = headers::again(&self.properties, failure.attempts, Some(failure));
                self.publish(&self.place.dead, properties, body).await?;
                failpoints::hit(Point::DeadPublished);
            }
            // A requeue would count toward the delivery limit (on 3.10), and as an attempt.
            Verdict::Release => {
                let properties = headers::again(&self.properties, self.attempt.saturating_sub(1), None);
                self.publish(&self.place.work, properties, body).await?;
            }
        }
        self.place.settled.send(self.tag).map_err(|_| SettleError::Lost("its channel has closed".into()))
    }

    /// Confirmed before the old delivery is acknowledged: a crash in between doubles the message, and the
    /// consumer's inbox absorbs that; the other way round would lose it.
    async fn publish(
        &self,
        queue: &str,
        properties: BasicProperties,
        body: &Bytes,
    ) -> Result<(), SettleError> {
        let frame =
            Frame { exchange: "".into(), key: queue.into(), mandatory: true, properties, body: body.clone() };
        let published = self.place.publisher.publish_one(frame).await;
        if matches!(published, Err(Failed::Unroutable)) {
            self.place.declare().await.map_err(|error| SettleError::Unavailable(format!("{error:#}")))?;
        }
        published.map_err(|error| SettleError::Unavailable(format!("{queue}: {error}")))
    }
}

impl Place {
    /// Somebody deleted a retry queue or the dead letters, and the consumer noticed nothing.
    async fn declare(&self) -> anyhow::Result<()> {
        let tiers = self.tiers.iter().map(|(pause, _)| *pause).collect();
        let connection = self.consuming.connection().await?;
        let declaring = self.topology.declare(&connection, self.queue, &tiers);
        tokio::time::timeout(DECLARE_WITHIN, declaring).await.context("RabbitMQ does not answer")??;
        Ok(())
    }
}
