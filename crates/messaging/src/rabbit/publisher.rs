use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::sync::Mutex;

use super::{link::Link, topology::Topology};

/// How long the broker may take to confirm what was published together. A connection that the broker has
/// blocked takes nothing at all.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// A message on the wire.
pub(crate) struct Frame {
    pub exchange: ShortString,
    pub key: ShortString,
    /// Comes back if no queue takes it.
    pub mandatory: bool,
    pub properties: BasicProperties,
    pub body: Bytes,
}

/// Why a frame was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{0}")]
    Unavailable(String),
    #[error("no queue takes it")]
    Unroutable,
}

/// Publishes with confirms, over one channel that all callers share.
pub(crate) struct Publisher {
    link: Link,
    topology: Arc<Topology>,
    channel: Mutex<Option<Channel>>,
    /// A message came back: somebody deleted a queue, so declare what we know before going on.
    incomplete: AtomicBool,
}

impl Publisher {
    pub fn new(link: Link, topology: Arc<Topology>) -> Self {
        Self { link, topology, channel: Mutex::default(), incomplete: AtomicBool::new(false) }
    }

    /// The channel, made anew after any failure, on a topology that is complete.
    pub async fn channel(&self) -> anyhow::Result<Channel> {
        let mut kept = self.channel.lock().await;
        if let Some(channel) = kept.as_ref()
            && channel.status().connected()
            && !self.incomplete.load(Ordering::Relaxed)
        {
            return Ok(channel.clone());
        }
        *kept = None;
        let made = tokio::time::timeout(CONFIRM_WITHIN, async {
            let channel = self.link.connection().await?.create_channel().await?;
            self.topology.declare_remembered(&channel).await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            anyhow::Ok(channel)
        })
        .await;
        match made {
            Ok(made) => {
                let channel = made?;
                self.incomplete.store(false, Ordering::Relaxed);
                *kept = Some(channel.clone());
                Ok(channel)
            }
            Err(_) => {
                self.link.discard().await;
                anyhow::bail!("RabbitMQ did not answer within {} s", CONFIRM_WITHIN.as_secs())
            }
        }
    }

    /// A channel to ask on. What closes it (a queue that is not there) must not disturb the publishing.
    pub async fn side_channel(&self) -> anyhow::Result<Channel> {
        Ok(self.link.connection().await?.create_channel().await?)
    }

    /// Publishes all at once, and waits until each is confirmed.
    pub async fn publish(&self, frames: Vec<Frame>) -> Vec<Result<(), Failed>> {
        let channel = match self.channel().await {
            Ok(channel) => channel,
            Err(error) => {
                let failed = Failed::Unavailable(format!("{error:#}"));
                return frames.iter().map(|_| Err(failed.clone())).collect();
            }
        };
        let late = format!("no confirm within {} s", CONFIRM_WITHIN.as_secs());
        let mut results: Vec<_> = frames.iter().map(|_| Err(Failed::Unavailable(late.clone()))).collect();
        let mut confirms: FuturesUnordered<_> = frames
            .into_iter()
            .enumerate()
            .map(|(index, frame)| {
                let channel = &channel;
                async move { (index, send(channel, frame).await) }
            })
            .collect();
        let all = async {
            while let Some((index, result)) = confirms.next().await {
                results[index] = result;
            }
        };
        let in_time = tokio::time::timeout(CONFIRM_WITHIN, all).await.is_ok();
        drop(confirms);
        if !in_time {
            self.channel.lock().await.take();
            self.link.discard().await;
        }
        if results.iter().any(|result| matches!(result, Err(Failed::Unroutable))) {
            self.incomplete.store(true, Ordering::Relaxed);
        }
        results
    }

    /// Publishes one message.
    pub async fn publish_one(&self, frame: Frame) -> Result<(), Failed> {
        self.publish(vec![frame]).await.pop().unwrap_or(Err(Failed::Unavailable("no result".into())))
    }
}

async fn send(channel: &Channel, frame: Frame) -> Result<(), Failed> {
    let options = BasicPublishOptions { mandatory: frame.mandatory, immediate: false };
    let unavailable = |error: lapin::Error| Failed::Unavailable(error.to_string());
    let confirm = channel
        .basic_publish(frame.exchange, frame.key, options, &frame.body, frame.properties)
        .await
        .map_err(unavailable)?;
    match confirm.await.map_err(unavailable)? {
        Confirmation::Ack(None) => Ok(()),
        // An ack alone is no success: what no queue took is returned first, and then acked.
        Confirmation::Ack(Some(_)) => Err(Failed::Unroutable),
        Confirmation::Nack(_) => Err(Failed::Unavailable("the queue refuses messages: it is full".into())),
        Confirmation::NotRequested => Err(Failed::Unavailable("the channel does not confirm".into())),
    }
}
