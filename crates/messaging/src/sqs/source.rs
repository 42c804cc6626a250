use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_sqs::types::{
    Message,
    MessageSystemAttributeName::{ApproximateFirstReceiveTimestamp, ApproximateReceiveCount},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use contracts::Queue;
use failpoints::Point;
use tokio::{
    sync::mpsc::{Sender, channel},
    task::JoinHandle,
};

use super::{
    Failed, Sqs, client, explain,
    settler::{self, Settled},
};
use crate::{
    delivery::{Delivery, SettleError, Verdict, jitter},
    metrics,
};

/// SQS keeps a message invisible for at most 12 h since it was received, and refuses what goes beyond.
const LONGEST: Duration = Duration::from_secs(12 * 3600 - 600);
/// Settled messages that may wait to be written out. While SQS takes none, handlers keep their places.
const UNWRITTEN: usize = 1000;
/// Writing out what is settled may take this long at the end.
const LEAVE_WITHIN: Duration = Duration::from_secs(15);

/// A consumer that polls.
pub(crate) struct Source {
    place: Arc<Place>,
    settling: JoinHandle<()>,
    /// A receive under way. It runs in a task of its own, because what it brings is invisible to all
    /// others: it must not be dropped.
    receiving: Option<JoinHandle<anyhow::Result<Vec<Message>>>>,
}

struct Place {
    sqs: Sqs,
    queue: &'static Queue,
    url: String,
    settled: Sender<Settled>,
}

impl Sqs {
    pub async fn open(&self, queue: &'static Queue) -> anyhow::Result<Source> {
        let names = self.names(queue.name);
        let url = self.url(queue.name, &names.work).await?;
        // Known before it is needed.
        self.url(queue.name, &names.dead).await?;
        let (settled, receiver) = channel(UNWRITTEN);
        let settling = tokio::spawn(settler::settle(self.clone(), queue.name, url.clone(), receiver));
        let place = Arc::new(Place { sqs: self.clone(), queue, url, settled });
        Ok(Source { place, settling, receiving: None })
    }
}

impl Source {
    pub async fn receive(&mut self, most: usize) -> anyhow::Result<Vec<Delivery<Token>>> {
        loop {
            let place = &self.place;
            let receiving = self.receiving.get_or_insert_with(|| tokio::spawn(receive(place.clone(), most)));
            let received = receiving.await;
            self.receiving = None;
            let messages = received??;
            if !messages.is_empty() {
                return Ok(messages.into_iter().map(|message| self.delivery(message)).collect());
            }
        }
    }

    fn delivery(&self, message: Message) -> Delivery<Token> {
        let attribute = |name| message.attributes().and_then(|all| all.get(&name));
        let attempt: u32 = attribute(ApproximateReceiveCount).and_then(|n| n.parse().ok()).unwrap_or(1);
        let first = attribute(ApproximateFirstReceiveTimestamp).and_then(|ms| ms.parse().ok());
        let first: Option<DateTime<Utc>> = first.and_then(DateTime::from_timestamp_millis);
        Delivery {
            body: message.body.unwrap_or_default().into(),
            attempt,
            // SQS remembers no failures: the first receive is the closest.
            first_failed_at: first.filter(|_| attempt > 1),
            token: Token {
                receipt: message.receipt_handle.unwrap_or_default(),
                received: Instant::now(),
                place: self.place.clone(),
            },
        }
    }

    pub async fn stop(&mut self) -> Vec<Delivery<Token>> {
        let Some(receiving) = self.receiving.take() else { return Vec::new() };
        match receiving.await {
            Ok(Ok(messages)) => messages.into_iter().map(|message| self.delivery(message)).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }

    /// The task that writes out what handlers still settle; it ends after the last of them.
    pub fn abandon(self) -> JoinHandle<()> {
        self.settling
    }

    pub async fn close(self) {
        let Self { place, settling, .. } = self;
        drop(place);
        if tokio::time::timeout(LEAVE_WITHIN, settling).await.is_err() {
            tracing::warn!("settled messages are not written out in time and will be delivered again");
        }
    }
}

async fn receive(place: Arc<Place>, most: usize) -> anyhow::Result<Vec<Message>> {
    let config = place.sqs.config();
    metrics::sqs_call(place.queue.name, "receive");
    let answer = place
        .sqs
        .client()
        .await
        .receive_message()
        .queue_url(&place.url)
        .max_number_of_messages(most.clamp(1, 10) as i32)
        .wait_time_seconds(config.wait.as_secs().min(20) as i32)
        .visibility_timeout(visibility(config.visibility))
        .message_system_attribute_names(ApproximateReceiveCount)
        .message_system_attribute_names(ApproximateFirstReceiveTimestamp)
        .customize()
        .config_override(client::receiving(config))
        .send()
        .await;
    match answer {
        Ok(answer) => Ok(answer.messages.unwrap_or_default()),
        Err(error) => {
            if error.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) {
                // Opening again asks for it, and makes it where we may.
                place.sqs.forget(place.queue.name);
            }
            Err(explain(error))
        }
    }
}

fn visibility(time: Duration) -> i32 {
    i32::try_from(time.as_secs().clamp(1, 43_200)).unwrap_or(43_200)
}

/// A pause in whole seconds: rounded up, because a pause that becomes none is no backoff, and within what SQS grants
/// a message that was received so long ago.
fn seconds(pause: Duration, received: Duration) -> i32 {
    pause.min(LONGEST.saturating_sub(received)).as_secs_f64().ceil() as i32
}

/// A delivery by its receipt.
pub(crate) struct Token {
    receipt: String,
    received: Instant,
    place: Arc<Place>,
}

impl Token {
    pub async fn settle(&self, verdict: &Verdict, body: &Bytes) -> Result<(), SettleError> {
        let receipt = self.receipt.clone();
        let settled = match verdict {
            Verdict::Done => Settled::Delete(receipt),
            Verdict::Retry { pause, .. } => {
                Settled::Postpone(receipt, seconds(jitter(*pause), self.received.elapsed()))
            }
            Verdict::Dead(failure) => {
                // It came from SQS, so it is text.
                let text = std::str::from_utf8(body).map_err(|e| SettleError::Unavailable(e.to_string()))?;
                let buried = self.place.sqs.bury(self.place.queue.name, text, failure).await;
                buried.map_err(|error| match error {
                    Failed::Missing => {
                        let dead = self.place.sqs.names(self.place.queue.name).dead;
                        SettleError::Unavailable(format!("the dead-letter queue {dead} does not exist"))
                    }
                    error => SettleError::Unavailable(error.to_string()),
                })?;
                failpoints::hit(Point::DeadPublished);
                Settled::Delete(receipt)
            }
            Verdict::Release => Settled::Postpone(receipt, 0),
        };
        let settled = self.place.settled.send(settled).await;
        settled.map_err(|_| SettleError::Lost("the consumer has left".into()))
    }

    /// The message comes again after the pause.
    pub fn give_up(&self, pause: Duration) {
        let seconds = seconds(jitter(pause), self.received.elapsed());
        // Where nobody settles any more, it comes when its visibility lapses.
        let _ = self.place.settled.try_send(Settled::Postpone(self.receipt.clone(), seconds));
    }

    /// Renews the message's invisibility at a third of its time, so that two calls may fail.
    pub async fn keep(&self) -> Infallible {
        let config = self.place.sqs.config();
        let full = Duration::from_secs(visibility(config.visibility).unsigned_abs().into());
        let mut next = full / 3;
        loop {
            tokio::time::sleep(next).await;
            let left = LONGEST.saturating_sub(self.received.elapsed());
            if left.is_zero() {
                tracing::warn!(
                    queue = self.place.queue.name,
                    "a message has been worked on for nearly 12 h: SQS will deliver it again"
                );
                return std::future::pending().await;
            }
            metrics::sqs_call(self.place.queue.name, "keep");
            let call = self.place.sqs.client().await.change_message_visibility();
            let call = call.queue_url(&self.place.url).receipt_handle(&self.receipt);
            match call.visibility_timeout(visibility(full.min(left))).send().await {
                Ok(_) => next = full / 3,
                Err(error) => {
                    next = full / 10;
                    tracing::warn!(queue = self.place.queue.name, error = %format!("{:#}", explain(error)),
                        "a message could not be kept invisible; it may be delivered to another worker too");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_never_none_and_ends_within_what_sqs_grants() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(seconds(Duration::from_millis(60), Duration::ZERO), 1);
        assert_eq!(seconds(minutes(10), minutes(60)), 600);
        assert_eq!(seconds(minutes(10), minutes(12 * 60 - 11)), 60);
        assert_eq!(seconds(minutes(10), minutes(12 * 60)), 0);
    }
}
