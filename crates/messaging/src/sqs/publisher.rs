use std::time::Duration;

use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::timeout;

use super::{MAX_MESSAGE, MissingQueue, Sqs, explain};
use crate::{
    delivery::{Failure, clip},
    metrics,
};

/// Entries of a batch: SQS's own limit.
const BATCH: usize = 10;
/// Bytes of a batch. AWS takes 1 MiB today, and took 256 KiB for years; other implementations still do.
const BATCH_BYTES: usize = 256 * 1024;
/// Kept free in a message for the attributes that a dead letter gets.
const FOR_ATTRIBUTES: usize = 8 * 1024;
/// Batches under way at once.
const BATCHES: usize = 8;
/// How long SQS may take to confirm what was published together, as RabbitMQ.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// Why a message was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Refused(String),
    #[error("the queue does not exist")]
    Missing,
}

impl Sqs {
    /// Sends the bodies in batches of ten. One result a body, in their order, after ten seconds at most: what is not
    /// confirmed by then is unavailable, and not sent any more.
    pub async fn publish(&self, queue: &'static str, bodies: &[Bytes]) -> Vec<Result<(), Failed>> {
        let late = format!("no confirm within {} s", CONFIRM_WITHIN.as_secs());
        let mut results: Vec<Result<(), Failed>> = Vec::with_capacity(bodies.len());
        let mut entries = Vec::with_capacity(bodies.len());
        for (index, body) in bodies.iter().enumerate() {
            results.push(match text(body) {
                Ok(text) => {
                    entries.push((index, text));
                    Err(Failed::Unavailable(late.clone()))
                }
                Err(refused) => Err(refused),
            });
        }
        // Made in a loop, not by a closure over borrowed text: the future would not be `Send` for every
        // lifetime, and a task that publishes could not be spawned.
        let mut waiting = Vec::new();
        for batch in batches(entries) {
            waiting.push(async move {
                let sent = self.send(queue, &batch).await;
                batch.into_iter().map(|(index, _)| index).zip(sent)
            });
        }
        let mut sending = stream::iter(waiting).buffer_unordered(BATCHES);
        let all = async {
            while let Some(sent) = sending.next().await {
                for (index, result) in sent {
                    results[index] = result;
                }
            }
        };
        // What is under way at that moment may arrive all the same: it is doubled, not lost.
        let _ = timeout(CONFIRM_WITHIN, all).await;
        drop(sending);
        results
    }

    async fn send(&self, queue: &'static str, batch: &[(usize, &str)]) -> Vec<Result<(), Failed>> {
        let mut sent = self.send_once(queue, batch).await;
        if matches!(sent, Err(Failed::Missing)) && self.config().create {
            // LocalStack was wiped: the queue is made again on the way to its address.
            sent = self.send_once(queue, batch).await;
        }
        sent.unwrap_or_else(|failed| batch.iter().map(|_| Err(failed.clone())).collect())
    }

    async fn send_once(
        &self,
        queue: &'static str,
        batch: &[(usize, &str)],
    ) -> Result<Vec<Result<(), Failed>>, Failed> {
        let url = self.address(queue, &self.names(queue).work).await?;
        let mut entries = Vec::with_capacity(batch.len());
        for (place, (_, body)) in batch.iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder().id(place.to_string()).message_body(*body);
            entries.push(entry.build().map_err(|error| Failed::Refused(error.to_string()))?);
        }
        metrics::sqs_call(queue, "send");
        let call = self.client().await.send_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = call.send().await.map_err(|error| {
            if error.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) {
                self.forget(queue);
                return Failed::Missing;
            }
            Failed::Unavailable(format!("{:#}", explain(error)))
        })?;
        let mut results: Vec<Result<(), Failed>> =
            batch.iter().map(|_| Err(Failed::Unavailable("SQS said nothing about it".into()))).collect();
        for entry in answer.successful() {
            if let Some(result) = entry.id().parse().ok().and_then(|place: usize| results.get_mut(place)) {
                *result = Ok(());
            }
        }
        for entry in answer.failed() {
            if let Some(result) = entry.id().parse().ok().and_then(|place: usize| results.get_mut(place)) {
                let said = format!("{}: {}", entry.code(), entry.message().unwrap_or_default());
                *result =
                    Err(if entry.sender_fault() { Failed::Refused(said) } else { Failed::Unavailable(said) });
            }
        }
        Ok(results)
    }

    /// Sends a message to the dead letters, with what is known of its end as attributes.
    pub(super) async fn bury(
        &self,
        queue: &'static str,
        body: &str,
        failure: &Failure,
    ) -> Result<(), Failed> {
        let url = self.address(queue, &self.names(queue).dead).await?;
        metrics::sqs_call(queue, "bury");
        let mut call = self.client().await.send_message().queue_url(url).message_body(body);
        let time = |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339();
        // AWS takes at most ten.
        for (name, value) in [
            (REASON, failure.reason.to_owned()),
            (ERROR, printable(clip(&failure.error, FOR_ATTRIBUTES / 2))),
            (ATTEMPTS, failure.attempts.to_string()),
            (FIRST_FAILED_AT, time(failure.first_failed_at)),
            (FAILED_AT, time(failure.failed_at)),
        ] {
            if !value.is_empty() {
                let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
                call = call.message_attributes(name, value.map_err(|e| Failed::Refused(e.to_string()))?);
            }
        }
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => {
                self.forget(queue);
                Err(Failed::Missing)
            }
            Err(error) => Err(Failed::Unavailable(format!("{:#}", explain(error)))),
        }
    }

    async fn address(&self, queue: &'static str, name: &str) -> Result<String, Failed> {
        let found = self.url(queue, name).await;
        found.map_err(|error| match error.downcast_ref::<MissingQueue>() {
            Some(_) => Failed::Missing,
            None => Failed::Unavailable(format!("{error:#}")),
        })
    }
}

pub(super) const REASON: &str = "lote-reason";
pub(super) const ERROR: &str = "lote-error";
pub(super) const ATTEMPTS: &str = "lote-attempts";
pub(super) const FIRST_FAILED_AT: &str = "lote-first-failed-at";
pub(super) const FAILED_AT: &str = "lote-failed-at";

fn text(body: &Bytes) -> Result<&str, Failed> {
    let most = MAX_MESSAGE - FOR_ATTRIBUTES;
    if body.len() > most {
        return Err(Failed::Refused(format!("{} bytes, expected at most {most}", body.len())));
    }
    if body.is_empty() {
        return Err(Failed::Refused("an empty body".into()));
    }
    std::str::from_utf8(body).map_err(|error| Failed::Refused(format!("no UTF-8: {error}")))
}

/// SQS refuses control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}

fn batches(entries: Vec<(usize, &str)>) -> Vec<Vec<(usize, &str)>> {
    let mut batches: Vec<Vec<(usize, &str)>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH && bytes + entry.1.len() <= BATCH_BYTES => {
                bytes += entry.1.len();
                batch.push(entry);
            }
            _ => {
                bytes = entry.1.len();
                batches.push(vec![entry]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_both_limits_and_the_order() {
        let small = "x".repeat(100);
        let large = "x".repeat(BATCH_BYTES - 150);
        let bodies: Vec<&str> =
            std::iter::repeat_n(small.as_str(), 23).chain([large.as_str(), &small, &small]).collect();
        let batches = batches(bodies.into_iter().enumerate().collect());
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 3, 2, 1]);
        let order: Vec<usize> = batches.into_iter().flatten().map(|(index, _)| index).collect();
        assert_eq!(order, (0..26).collect::<Vec<_>>());
    }

    #[test]
    fn what_sqs_can_never_take_is_refused_before_it_is_sent() {
        for body in [Bytes::new(), vec![b'x'; MAX_MESSAGE].into(), vec![0xff].into()] {
            assert!(matches!(text(&body), Err(Failed::Refused(_))), "{} bytes", body.len());
        }
        assert!(text(&Bytes::from_static(b"{}")).is_ok());
        assert_eq!(printable("a\u{0}b\nc"), "a b\nc");
    }
}
