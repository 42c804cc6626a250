use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::Queue;
use uuid::Uuid;

use crate::Broker;

/// A message that will not be worked off any more, as the dead-letter queue holds it.
#[derive(Debug)]
pub struct DeadLetter {
    /// The message as it was, decodable or not.
    pub body: Bytes,
    /// The envelope's id, if it can be read.
    pub id: Option<Uuid>,
    /// The envelope's type, if it can be read.
    pub kind: Option<String>,
    /// Why, in a word: `failed`, `attempts`, `undecodable`, `unknown_type`; or what the broker itself
    /// says: `delivery_limit`, `receive_count`, …
    pub reason: String,
    /// The last error with its causes. Empty where the broker gave up on the message.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first, if that is known.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// When it failed for the last time.
    pub failed_at: DateTime<Utc>,
    /// The logical name of the queue it came by.
    pub origin: String,
}

impl DeadLetter {
    /// Removes it from the dead-letter queue: call when it is safe elsewhere. A letter that is dropped
    /// without comes back.
    ///
    /// # Errors
    /// The broker can't be reached: the letter will come again.
    pub async fn ack(self) -> anyhow::Result<()> {
        anyhow::bail!("{}: not connected", self.origin)
    }
}

/// Takes dead letters from a queue, through reconnects.
pub struct Letters {
    #[expect(dead_code, reason = "the transports follow")]
    broker: Broker,
    #[expect(dead_code, reason = "the transports follow")]
    queue: &'static Queue,
}

impl Letters {
    pub(crate) fn new(broker: &Broker, queue: &'static Queue) -> Self {
        Self { broker: broker.clone(), queue }
    }

    /// The next letter; waits for one, and for the broker to come back. Cancel-safe.
    pub async fn next(&mut self) -> DeadLetter {
        std::future::pending().await
    }
}
