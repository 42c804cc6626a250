use std::sync::Arc;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use contracts::Queue;
use futures::StreamExt as _;
use lapin::{
    Acker,
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions},
    types::FieldTable,
};

use super::{headers, link::OwnChannel, topology::Topology};
use crate::dead_letter::{DeadLetter, Receipt};

/// A consumer of a dead-letter queue.
pub(crate) struct LetterSource {
    /// Closes with this and the last of its letters, and the broker takes back what is not acked.
    channel: Arc<OwnChannel>,
    consumer: lapin::Consumer,
    queue: &'static Queue,
    work: String,
}

impl LetterSource {
    pub async fn start(
        channel: OwnChannel,
        queue: &'static Queue,
        topology: &Topology,
    ) -> anyhow::Result<Self> {
        let dead = topology.dead(queue.name);
        let consumer = channel
            .basic_consume(
                dead.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .with_context(|| format!("{dead} can't be consumed"))?;
        Ok(Self { channel: Arc::new(channel), consumer, queue, work: topology.work(queue.name) })
    }

    pub async fn next(&mut self) -> anyhow::Result<DeadLetter> {
        let Some(delivered) = self.consumer.next().await else {
            bail!("the broker cancelled the consumer");
        };
        let delivered = delivered?;
        let past = headers::past(&delivered.properties);
        let broker = headers::death(&delivered.properties, &self.work);
        let receipt = LetterReceipt { acker: Some(delivered.acker), _channel: self.channel.clone() };
        let mut letter = DeadLetter::read(delivered.data.into(), self.queue.name, Some(Box::new(receipt)));
        letter.attempts = past.attempts;
        letter.first_failed_at = past.first_failed_at;
        letter.error = past.error.unwrap_or_default();
        match broker {
            // The broker gave it up: the headers of ours tell of earlier failures.
            Some((reason, time)) => {
                letter.reason = reason;
                letter.failed_at = time.or(past.failed_at).unwrap_or(letter.failed_at);
            }
            None => {
                letter.reason = past.reason.unwrap_or(letter.reason);
                letter.failed_at = past.failed_at.unwrap_or(letter.failed_at);
            }
        }
        Ok(letter)
    }
}

/// Removes a letter; dropped without, gives it back.
struct LetterReceipt {
    acker: Option<Acker>,
    _channel: Arc<OwnChannel>,
}

impl std::fmt::Debug for LetterReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LetterReceipt").field("acker", &self.acker).finish_non_exhaustive()
    }
}

#[async_trait]
impl Receipt for LetterReceipt {
    async fn ack(mut self: Box<Self>) -> anyhow::Result<()> {
        match self.acker.take() {
            Some(acker) if acker.ack(BasicAckOptions::default()).await? => Ok(()),
            _ => bail!("the channel has closed"),
        }
    }
}

impl Drop for LetterReceipt {
    fn drop(&mut self) {
        if let (Some(acker), Ok(runtime)) = (self.acker.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                // Requeueing counts as a delivery before 4.3: a dead-letter queue has no limit worth the name.
                acker.nack(BasicNackOptions { requeue: true, multiple: false }).await
            });
        }
    }
}
