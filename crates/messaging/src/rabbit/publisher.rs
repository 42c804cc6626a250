use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout_at},
};

use super::link::Link;

/// How long a call may take from its first message to the last confirm.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// Calls that publish at once, each on a channel of its own. Others wait for their turn, within their time.
const CHANNELS: usize = 32;

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

/// Publishes with confirms. A call has its channel to itself: lapin hands a message that came back to whichever
/// confirm of its channel resolves next, so on a shared channel one caller would be told of another's message.
pub(crate) struct Publisher {
    link: Link,
    /// Channels on which everything is confirmed.
    idle: Mutex<Vec<Confirming>>,
    turns: Semaphore,
    /// Told when the broker lacks something that was declared.
    incomplete: Arc<Notify>,
}

/// A channel that confirms, with the connection it is on.
struct Confirming {
    connection: Arc<Connection>,
    channel: Channel,
}

impl Publisher {
    pub fn new(link: Link, incomplete: Arc<Notify>) -> Self {
        Self { link, idle: Mutex::default(), turns: Semaphore::new(CHANNELS), incomplete }
    }

    /// Why nothing can be published at the moment, where the broker has said so.
    pub async fn blocked(&self) -> anyhow::Result<()> {
        refuse_blocked(&*self.link.connection().await?)
    }

    /// Publishes all at once, and waits until each is confirmed. One result a frame, in their order, within
    /// [`CONFIRM_WITHIN`].
    pub async fn publish(&self, frames: Vec<Frame>) -> Vec<Result<(), Failed>> {
        let until = Instant::now() + CONFIRM_WITHIN;
        let count = frames.len();
        let none = |reason: String| vec![Err(Failed::Unavailable(reason)); count];
        let late = || format!("no confirm within {} s", CONFIRM_WITHIN.as_secs());
        let Ok(turn) = timeout_at(until, self.turns.acquire()).await else { return none(late()) };
        let channel = match self.channel(until).await {
            Ok(channel) => channel,
            Err(error) => return none(format!("{error:#}")),
        };
        let mut sent = Sent::new(&frames, late());
        let mut confirms: FuturesUnordered<_> = frames
            .into_iter()
            .enumerate()
            .map(|(index, frame)| {
                let channel = &channel.channel;
                async move { (index, send(channel, frame).await) }
            })
            .collect();
        let all = async {
            while let Some((index, confirmation)) = confirms.next().await {
                sent.settle(index, confirmation);
            }
        };
        let in_time = timeout_at(until, all).await.is_ok();
        drop(confirms);
        let results = sent.results();
        if results.iter().any(|result| matches!(result, Err(Failed::Unroutable))) {
            self.incomplete.notify_one();
        }
        if in_time {
            self.keep(channel);
        } else {
            // Confirms may still come on this channel: nobody publishes on it any more.
            drop(turn);
            self.link.suspect(&channel.connection).await;
        }
        results
    }

    /// Publishes one message.
    pub async fn publish_one(&self, frame: Frame) -> Result<(), Failed> {
        self.publish(vec![frame]).await.pop().unwrap_or(Err(Failed::Unavailable("no result".into())))
    }

    /// An idle channel of the present connection, or a new one.
    async fn channel(&self, until: Instant) -> anyhow::Result<Confirming> {
        let late = || anyhow::anyhow!("RabbitMQ did not answer within {} s", CONFIRM_WITHIN.as_secs());
        let connection = timeout_at(until, self.link.connection()).await.map_err(|_| late())??;
        refuse_blocked(&connection)?;
        if let Some(channel) = self.take(&connection) {
            return Ok(channel);
        }
        let opening = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            lapin::Result::Ok(channel)
        };
        match timeout_at(until, opening).await {
            Ok(channel) => Ok(Confirming { channel: channel?, connection }),
            Err(_) => {
                self.link.suspect(&connection).await;
                refuse_blocked(&connection)?;
                Err(late())
            }
        }
    }

    fn take(&self, connection: &Arc<Connection>) -> Option<Confirming> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| Arc::ptr_eq(&kept.connection, connection) && kept.channel.status().connected());
        idle.pop()
    }

    /// Keeps a channel for the next call. One that RabbitMQ has closed tells of a missing exchange.
    fn keep(&self, channel: Confirming) {
        if channel.channel.status().connected() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        } else if channel.connection.status().connected() {
            self.incomplete.notify_one();
        }
    }
}

/// A blocked connection takes nothing. What is written to it all the same waits in a socket, and is published when
/// the alarm ends, beside every repetition of it.
fn refuse_blocked(connection: &Connection) -> anyhow::Result<()> {
    let blocked = connection.status().blocked();
    anyhow::ensure!(!blocked, "RabbitMQ takes no messages: it is short of memory or disk space");
    Ok(())
}

/// What became of the frames of one call.
struct Sent {
    results: Vec<Result<(), Failed>>,
    /// By what a message that came back is told from the others: its routing key and its id.
    marks: Vec<(ShortString, Option<ShortString>)>,
    returned: Vec<BasicReturnMessage>,
}

impl Sent {
    fn new(frames: &[Frame], late: String) -> Self {
        Self {
            results: vec![Err(Failed::Unavailable(late)); frames.len()],
            marks: frames
                .iter()
                .map(|frame| (frame.key.clone(), frame.properties.message_id().clone()))
                .collect(),
            returned: Vec::new(),
        }
    }

    /// Takes note of a confirm. The message that lapin hands out with it is of this call, but may be another's.
    fn settle(&mut self, index: usize, confirmation: lapin::Result<Confirmation>) {
        let result = match &confirmation {
            Ok(Confirmation::Ack(_)) => Ok(()),
            Ok(Confirmation::Nack(_)) => {
                Err(Failed::Unavailable("the queue refuses messages: it is full".into()))
            }
            Ok(Confirmation::NotRequested) => Err(Failed::Unavailable("the channel does not confirm".into())),
            Err(error) => Err(Failed::Unavailable(error.to_string())),
        };
        self.results[index] = result;
        self.returned.extend(confirmation.ok().and_then(Confirmation::take_message));
    }

    /// An ack alone is no success: what no queue took is returned first, and then acked. Frames that share key and
    /// id are one message, of which all count as returned: twice is better than never.
    fn results(mut self) -> Vec<Result<(), Failed>> {
        for returned in self.returned {
            let (key, id) = (&returned.delivery.routing_key, returned.delivery.properties.message_id());
            for (result, mark) in self.results.iter_mut().zip(&self.marks) {
                if mark.0 == *key && mark.1 == *id {
                    *result = Err(Failed::Unroutable);
                }
            }
        }
        self.results
    }
}

async fn send(channel: &Channel, frame: Frame) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: frame.mandatory, immediate: false };
    let confirm = channel.basic_publish(frame.exchange, frame.key, options, &frame.body, frame.properties);
    confirm.await?.await
}
