use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

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
    /// What it takes to remove it; none where reading has done so.
    pub(crate) receipt: Option<Box<dyn Receipt>>,
}

impl DeadLetter {
    /// A letter of which only the body is known.
    pub(crate) fn read(body: Bytes, origin: &str, receipt: Option<Box<dyn Receipt>>) -> Self {
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
            Some(receipt) => receipt.ack().await,
            None => Ok(()),
        }
    }
}

/// Removes a letter from its transport's queue; dropped without, gives it back.
#[async_trait]
pub(crate) trait Receipt: std::fmt::Debug + Send + Sync {
    async fn ack(self: Box<Self>) -> anyhow::Result<()>;
}
