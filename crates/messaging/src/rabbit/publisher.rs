use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::ShortString,
};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::link::{self, Link};

/// How long a call may take from its first message to the last confirm.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// How often a call whose confirms are late looks whether its connection is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long late confirms are waited for on a connection that answers. RabbitMQ never confirms what a channel sends to a
/// quorum queue that was deleted and made again under it, and such a channel must not keep its turn for good.
const LINGER: Duration = Duration::from_secs(10);
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
    link: Arc<Link>,
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
        Self { link: Arc::new(link), idle: Mutex::default(), turns: Semaphore::new(CHANNELS), incomplete }
    }

    /// Why nothing can be published at the moment, where the broker has said so.
    pub async fn blocked(&self) -> anyhow::Result<()> {
        refuse_blocked(&*self.link.connection().await?)
    }

    /// Publishes all at once, and waits until each is confirmed. One result a frame, in their order, within
    /// [`CONFIRM_WITHIN`].
    ///
    /// A task of its own does it, so that a caller may leave: a channel that closes with messages unwritten takes its
    /// connection along, because lapin writes the close before them.
    pub async fn publish(self: &Arc<Self>, frames: Vec<Frame>) -> Vec<Result<(), Failed>> {
        let count = frames.len();
        let (tell, told) = oneshot::channel();
        let publisher = self.clone();
        tokio::spawn(async move { publisher.call(frames, tell).await });
        told.await
            .unwrap_or_else(|_| vec![Err(Failed::Unavailable("the publisher has stopped".into())); count])
    }

    async fn call(&self, frames: Vec<Frame>, tell: oneshot::Sender<Vec<Result<(), Failed>>>) {
        let until = Instant::now() + CONFIRM_WITHIN;
        let late = || format!("no confirm within {} s", CONFIRM_WITHIN.as_secs());
        let count = frames.len();
        let (turn, channel) = match self.open(until).await {
            Ok(opened) => opened,
            Err(error) => {
                let failed = Failed::Unavailable(format!("{error:#}"));
                let _ = tell.send(vec![Err(failed); count]);
                return;
            }
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
        let results = sent.results();
        if results.iter().any(|result| matches!(result, Err(Failed::Unroutable))) {
            self.incomplete.notify_one();
        }
        // Whoever asked may have left.
        let _ = tell.send(results);
        // With its turn: while the broker is behind, nothing is put on top.
        let complete = if in_time {
            drop(confirms);
            true
        } else {
            self.written_out(&channel, confirms).await
        };
        if complete {
            self.keep(channel);
        }
        drop(turn);
    }

    /// Waits for the confirms that were late. False where they will not come: the connection is lost or given up, or the
    /// channel is closed without them.
    async fn written_out(
        &self,
        channel: &Confirming,
        mut confirms: impl Stream<Item = (usize, lapin::Result<Confirmation>)> + Unpin,
    ) -> bool {
        let Confirming { connection, channel } = channel;
        // What is wrong with this channel may be wrong with others that have waited beside it.
        for idle in self.all_idle() {
            tokio::spawn(async move { link::leave(&idle.channel).await });
        }
        if self.link.suspect(connection).await {
            return false;
        }
        let mut patience = Instant::now() + LINGER;
        loop {
            match timeout(LOOK_EVERY, confirms.next()).await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) if !connection.status().connected() => return false,
                // What is written to a blocked connection is confirmed when the alarm ends.
                Err(_) if connection.status().blocked() => patience = Instant::now() + LINGER,
                Err(_) if Instant::now() < patience => {}
                // Another channel opens on the connection: all that was sent before is written.
                Err(_) if self.link.suspect(connection).await => return false,
                Err(_) if connection.status().blocked() => {}
                Err(_) => {
                    tracing::warn!("RabbitMQ does not confirm on a channel, which is closed");
                    link::leave(channel).await;
                    return false;
                }
            }
        }
    }

    /// A turn, and a channel.
    async fn open(&self, until: Instant) -> anyhow::Result<(SemaphorePermit<'_>, Confirming)> {
        let late = || anyhow::anyhow!("RabbitMQ did not answer within {} s", CONFIRM_WITHIN.as_secs());
        // Before there is a turn: those of an alarm's beginning wait for its end.
        let connection = timeout_at(until, self.link.connection()).await.map_err(|_| late())??;
        refuse_blocked(&connection)?;
        let turn = timeout_at(until, self.turns.acquire()).await.map_err(|_| late())??;
        Ok((turn, self.channel(until).await?))
    }

    /// Publishes one message.
    pub async fn publish_one(self: &Arc<Self>, frame: Frame) -> Result<(), Failed> {
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
                refuse_blocked(&connection)?;
                let (link, connection) = (self.link.clone(), connection.clone());
                tokio::spawn(async move { link.suspect(&connection).await });
                Err(late())
            }
        }
    }

    fn take(&self, connection: &Arc<Connection>) -> Option<Confirming> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| Arc::ptr_eq(&kept.connection, connection) && kept.channel.status().connected());
        idle.pop()
    }

    fn all_idle(&self) -> Vec<Confirming> {
        std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner))
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
