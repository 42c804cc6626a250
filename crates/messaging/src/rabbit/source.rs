use std::{collections::BTreeSet, sync::Arc, task::Poll, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use contracts::Queue;
use failpoints::Point;
use futures::{FutureExt as _, StreamExt as _};
use lapin::{
    BasicProperties, Channel, ErrorKind,
    message::Delivery as Delivered,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::FieldTable,
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

use super::{
    acks::{self, Settled},
    headers,
    link::{self, Link, OwnChannel},
    publisher::{Failed, Frame, Publisher},
    topology::Topology,
};
use crate::delivery::{Delivery, SettleError, Verdict, jitter};

/// How long leaving may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to fetch more at a time.
const WIDEN_WITHIN: Duration = Duration::from_secs(5);
/// How long making a queue again may take.
const DECLARE_WITHIN: Duration = Duration::from_secs(5);

const CANCELLED: &str = "the broker cancelled the consumer: its queue was deleted, or (RabbitMQ 4.3) a handler took longer \
     than consumer_timeout";

/// A consumer on a channel of its own.
pub(crate) struct Source {
    channel: OwnChannel,
    /// Together they fetch what the source may hold: the prefetch of each is fixed when it starts.
    consumers: Vec<lapin::Consumer>,
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
    settled: UnboundedSender<Settled>,
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
        let consumers = vec![consume(&channel, &work).await?];
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
        Ok(Self { channel, consumers, place, acknowledging, ended: None })
    }

    /// Fetches so many more at a time.
    pub async fn widen(&mut self, more: u16) -> anyhow::Result<()> {
        let widening = async {
            // It counts for consumers that start from now on.
            self.channel.basic_qos(more, BasicQosOptions::default()).await?;
            consume(&self.channel, &self.place.work).await
        };
        let consumer =
            tokio::time::timeout(WIDEN_WITHIN, widening).await.context("RabbitMQ does not answer")??;
        self.consumers.push(consumer);
        Ok(())
    }

    async fn next(&mut self) -> Option<lapin::Result<Delivered>> {
        std::future::poll_fn(|context| {
            let mut polled = self.consumers.iter_mut().map(|consumer| consumer.poll_next_unpin(context));
            polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }

    pub async fn receive(&mut self, most: usize) -> anyhow::Result<Vec<Delivery<Box<Token>>>> {
        if let Some(error) = self.ended.take() {
            return Err(error);
        }
        let mut deliveries = Vec::with_capacity(most.min(32));
        match self.next().await {
            Some(Ok(delivered)) => deliveries.push(self.delivery(delivered)),
            Some(Err(error)) => return Err(ended(error)),
            None => anyhow::bail!(CANCELLED),
        }
        while deliveries.len() < most {
            match self.next().now_or_never() {
                None => break,
                Some(Some(Ok(delivered))) => deliveries.push(self.delivery(delivered)),
                Some(Some(Err(error))) => {
                    self.ended = Some(ended(error));
                    break;
                }
                Some(None) => {
                    self.ended = Some(anyhow::anyhow!(CANCELLED));
                    break;
                }
            }
        }
        Ok(deliveries)
    }

    fn delivery(&self, delivered: Delivered) -> Delivery<Box<Token>> {
        let past = headers::past(&delivered.properties);
        let attempt = past.attempts.saturating_add(past.lost).saturating_add(1);
        Delivery {
            body: delivered.data.into(),
            attempt,
            first_failed_at: past.first_failed_at,
            token: Box::new(Token {
                tag: delivered.delivery_tag,
                attempt,
                properties: delivered.properties,
                place: self.place.clone(),
            }),
        }
    }

    pub async fn stop(&mut self) -> Vec<Delivery<Box<Token>>> {
        let cancels = self
            .consumers
            .iter()
            .map(|consumer| self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()));
        let cancelled = tokio::time::timeout(LEAVE_WITHIN, futures::future::try_join_all(cancels)).await;
        let mut left = Vec::new();
        // What can't be cancelled has ended; what it had taken, the broker gives to others.
        if matches!(cancelled, Ok(Ok(_))) {
            for mut consumer in std::mem::take(&mut self.consumers) {
                while let Some(Some(Ok(delivered))) = consumer.next().now_or_never() {
                    left.push(self.delivery(delivered));
                }
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

async fn consume(channel: &Channel, queue: &str) -> anyhow::Result<lapin::Consumer> {
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await;
    consumer.with_context(|| format!("{queue} can't be consumed"))
}

/// Why a consumer has ended, and what to do about it where that is known.
fn ended(error: lapin::Error) -> anyhow::Error {
    let late = matches!(error.kind(), ErrorKind::ProtocolError(error)
        if *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
            && error.get_message().as_str().contains("delivery acknowledgement"));
    let error = anyhow::Error::new(error);
    if late {
        error.context(
            "RabbitMQ closed the consumer's channel because a handler took longer than its consumer_timeout. Handlers go on, \
             their messages are delivered again. Set consumer_timeout in rabbitmq.conf above the longest deadline",
        )
    } else {
        error
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
                    let error = format!("no retry queue of {} ms", pause.as_millis());
                    return Err(SettleError::Unavailable(error));
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
        let settled = self.place.settled.send(Settled::Done(self.tag));
        settled.map_err(|_| SettleError::Lost("its channel has closed".into()))
    }

    /// Puts the message back into its queue. Unsettled on an open channel, it would never come again.
    pub fn give_up(&self) {
        // On a closed channel it is back already.
        let _ = self.place.settled.send(Settled::GivenUp(self.tag));
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

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn a_handler_that_outlives_consumer_timeout_is_told_in_plain_words() {
        let ended = |said: &str| {
            let kind = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
            ended(ErrorKind::ProtocolError(AMQPError::new(kind, said.into())).into())
        };
        // As RabbitMQ 3.10 says it.
        let late = ended(
            "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out. Timeout value used: 1800000 ms. \
             This timeout value can be configured, see consumers doc guide to learn more",
        );
        assert!(late.to_string().contains("Set consumer_timeout in rabbitmq.conf"), "{late}");
        assert!(format!("{late:#}").contains("1800000 ms"), "{late:#}");
        let other = ended("PRECONDITION_FAILED - unknown delivery tag 7");
        assert!(!format!("{other:#}").contains("consumer_timeout"), "{other:#}");
    }
}
