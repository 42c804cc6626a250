use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::Queue;
use uuid::Uuid;

use crate::{Broker, delivery::Pauses, rabbit, sqs};

/// How long a source may be silent before somebody looks whether letters wait.
const SILENT_FOR: Duration = Duration::from_secs(15);

/// A message that will not be processed any more, as the dead-letter queue holds it.
#[derive(Debug)]
pub struct DeadLetter {
    /// The message as it was, decodable or not.
    pub body: Bytes,
    /// The envelope's id, if it can be read.
    pub id: Option<Uuid>,
    /// The envelope's type, if it can be read.
    pub kind: Option<String>,
    /// Why, in a word: `failed`, `attempts`, `undecodable`, `unknown_type`; or what the broker itself
    /// says: `delivery_limit`, `expired`, `rejected`, `maxlen`, `receive_count`.
    pub reason: String,
    /// The last error with its causes. Empty where the broker gave up on a message that never failed.
    pub error: String,
    /// How often it was tried, as far as it is known.
    pub attempts: u32,
    /// When it failed first, if that is known.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// When it failed for the last time. If that is not known: on SQS, when it was sent; else when it was read.
    pub failed_at: DateTime<Utc>,
    /// The logical name of the queue it came by.
    pub origin: String,
    pub(crate) receipt: Receipt,
}

/// What it takes to remove a letter.
#[derive(Debug)]
pub(crate) enum Receipt {
    Rabbit(rabbit::LetterReceipt),
    Sqs(sqs::LetterReceipt),
    Memory,
}

impl DeadLetter {
    /// A letter of which only the body is known.
    pub(crate) fn read(body: Bytes, origin: &str, receipt: Receipt) -> Self {
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| json.get(name).and_then(serde_json::Value::as_str);
        Self {
            id: text("id").and_then(|id| id.parse().ok()),
            kind: text("type").map(str::to_owned),
            body,
            reason: "unknown".into(),
            error: String::new(),
            attempts: 0,
            first_failed_at: None,
            failed_at: Utc::now(),
            origin: origin.to_owned(),
            receipt,
        }
    }

    /// Removes it from the dead-letter queue: call when it is safe elsewhere. A letter that is dropped
    /// without comes back.
    ///
    /// # Errors
    /// The broker can't be reached: the letter will come again.
    pub async fn ack(self) -> anyhow::Result<()> {
        match self.receipt {
            Receipt::Rabbit(receipt) => receipt.ack().await,
            Receipt::Sqs(receipt) => receipt.ack().await,
            Receipt::Memory => Ok(()),
        }
    }
}

/// Takes dead letters from a queue, through reconnects. At most [`Letters::HELD`] can be held at a time.
pub struct Letters {
    broker: Broker,
    queue: &'static Queue,
    source: Option<LetterSource>,
    pauses: Pauses,
}

pub(crate) enum LetterSource {
    Rabbit(Box<rabbit::LetterSource>),
    Sqs(sqs::LetterSource),
    Memory,
}

impl Letters {
    /// Letters that can be held without an ack before RabbitMQ sends no more.
    pub const HELD: usize = 100;

    pub(crate) fn new(broker: &Broker, queue: &'static Queue) -> Self {
        Self { broker: broker.clone(), queue, source: None, pauses: Pauses::new() }
    }

    /// The next letter; waits for one, and for the broker to come back. Cancel-safe; on SQS, what was being
    /// received at that moment comes after a minute.
    pub async fn next(&mut self) -> DeadLetter {
        loop {
            let attempted = if self.broker.pushes(self.queue) {
                match tokio::time::timeout(SILENT_FOR, self.attempt()).await {
                    Ok(attempted) => attempted,
                    Err(_) if self.letters_wait().await => {
                        Err(anyhow::anyhow!("letters wait, and none is delivered"))
                    }
                    Err(_) => continue,
                }
            } else {
                self.attempt().await
            };
            match attempted {
                Ok(letter) => {
                    self.pauses.reset();
                    return letter;
                }
                Err(error) => {
                    self.source = None;
                    let pause = self.pauses.next();
                    tracing::warn!(queue = self.queue.name, error = %format!("{error:#}"),
                        pause_ms = pause.as_millis() as u64, "no dead letters can be taken");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Whether a silent source has gone deaf: RabbitMQ 3.10 leaves a consumer so whose queue was deleted and made again
    /// at once.
    async fn letters_wait(&self) -> bool {
        self.broker.depth(self.queue).await.is_ok_and(|depth| depth.dead > 0)
    }

    async fn attempt(&mut self) -> anyhow::Result<DeadLetter> {
        if self.source.is_none() {
            self.source = Some(self.broker.open_letters(self.queue).await?);
        }
        match &mut self.source {
            Some(LetterSource::Rabbit(source)) => source.next().await,
            Some(LetterSource::Sqs(source)) => source.next().await,
            Some(LetterSource::Memory) => self.broker.memory_letter(self.queue).await,
            None => anyhow::bail!("no source"),
        }
    }
}
