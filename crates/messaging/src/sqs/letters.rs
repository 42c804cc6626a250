use std::collections::VecDeque;

use anyhow::Context as _;
use async_trait::async_trait;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName::SentTimestamp};
use chrono::{DateTime, Utc};
use contracts::Queue;

use super::{
    MAX_RECEIVES, Sqs, client, explain,
    publisher::{ATTEMPTS, ERROR, FAILED_AT, FIRST_FAILED_AT, REASON},
};
use crate::{
    dead_letter::{DeadLetter, Receipt},
    metrics,
};

/// Letters are archived within moments; what an archiver drops, comes back after these seconds.
const VISIBILITY_SECONDS: i32 = 60;

/// Polls a dead-letter queue.
pub(crate) struct LetterSource {
    sqs: Sqs,
    queue: &'static Queue,
    url: String,
    received: VecDeque<Message>,
}

impl Sqs {
    pub async fn letters(&self, queue: &'static Queue) -> anyhow::Result<LetterSource> {
        let url = self.url(queue.name, &self.names(queue.name).dead).await?;
        Ok(LetterSource { sqs: self.clone(), queue, url, received: VecDeque::new() })
    }
}

impl LetterSource {
    pub async fn next(&mut self) -> anyhow::Result<DeadLetter> {
        loop {
            if let Some(message) = self.received.pop_front() {
                return Ok(self.letter(message));
            }
            let config = self.sqs.config();
            metrics::sqs_call(self.queue.name, "receive_letters");
            let call = self.sqs.client().await.receive_message().queue_url(&self.url);
            let answer = call
                .max_number_of_messages(10)
                .wait_time_seconds(config.wait.as_secs().min(20) as i32)
                .visibility_timeout(VISIBILITY_SECONDS)
                .message_attribute_names("All")
                .message_system_attribute_names(SentTimestamp)
                .customize()
                .config_override(client::receiving(config))
                .send()
                .await;
            match answer {
                Ok(answer) => self.received.extend(answer.messages.unwrap_or_default()),
                Err(error) => {
                    if error.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) {
                        self.sqs.forget(self.queue.name);
                    }
                    return Err(explain(error));
                }
            }
        }
    }

    fn letter(&self, message: Message) -> DeadLetter {
        let receipt = LetterReceipt {
            sqs: self.sqs.clone(),
            queue: self.queue.name,
            url: self.url.clone(),
            receipt: message.receipt_handle.unwrap_or_default(),
        };
        let sent = message.attributes.as_ref().and_then(|all| all.get(&SentTimestamp));
        let sent: Option<DateTime<Utc>> =
            sent.and_then(|ms| ms.parse().ok()).and_then(DateTime::from_timestamp_millis);
        let attributes = message.message_attributes.unwrap_or_default();
        let text = |name| attributes.get(name).and_then(|value| value.string_value());
        let body = message.body.unwrap_or_default().into();
        let mut letter = DeadLetter::read(body, self.queue.name, Some(Box::new(receipt)));
        // Without our attributes, SQS moved it by itself.
        letter.reason = text(REASON).unwrap_or("receive_count").to_owned();
        letter.attempts = text(ATTEMPTS).and_then(|n| n.parse().ok()).unwrap_or(MAX_RECEIVES);
        letter.error = text(ERROR).unwrap_or_default().to_owned();
        letter.first_failed_at = text(FIRST_FAILED_AT).and_then(|time| time.parse().ok());
        // When SQS moved it, nobody knows. When it was sent is the same each time it is read, and an archiver
        // knows by that what it has.
        letter.failed_at =
            text(FAILED_AT).and_then(|time| time.parse().ok()).or(sent).unwrap_or(letter.failed_at);
        letter
    }
}

/// Removes a letter.
struct LetterReceipt {
    sqs: Sqs,
    queue: &'static str,
    url: String,
    receipt: String,
}

impl std::fmt::Debug for LetterReceipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LetterReceipt").field("url", &self.url).finish_non_exhaustive()
    }
}

#[async_trait]
impl Receipt for LetterReceipt {
    async fn ack(self: Box<Self>) -> anyhow::Result<()> {
        metrics::sqs_call(self.queue, "delete_letter");
        let call = self.sqs.client().await.delete_message().queue_url(&self.url);
        let deleted = call.receipt_handle(&self.receipt).send().await;
        deleted.map_err(explain).context("a letter can't be deleted")?;
        Ok(())
    }
}
