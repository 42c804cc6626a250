//! Deletes and postpones messages in batches of ten: a tenth of the calls, a tenth of the bill.

use std::{sync::Arc, time::Duration};

use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
};
use tokio::{
    sync::{Semaphore, mpsc::Receiver},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{Sqs, explain};
use crate::{delivery::Pauses, metrics};

/// How long the first of a batch waits for company.
const LINGER: Duration = Duration::from_millis(20);
const BATCH: usize = 10;
/// Calls under way at once.
const CALLS: usize = 4;
/// How long a call is tried again, after which the messages come again by themselves. Nobody keeps them invisible
/// meanwhile, so that a call may meet a message that somebody else has got by now. That doubles and never loses: what
/// is deleted late is done or is a dead letter, and what is postponed late is delivered once more.
const TRY_FOR: Duration = Duration::from_secs(20);
const NO_ANSWER: &str = "SQS does not answer";

/// What becomes of a received message.
pub(super) enum Settled {
    Delete(String),
    /// Invisible for so many more seconds.
    Postpone(String, i32),
}

/// Settles until all senders are gone and everything is written out.
pub(super) async fn settle(sqs: Sqs, queue: &'static str, url: String, mut settled: Receiver<Settled>) {
    let calls = Arc::new(Semaphore::new(CALLS));
    let mut under_way = JoinSet::new();
    while let Some(first) = settled.recv().await {
        let (mut deletes, mut postpones) = (Vec::new(), Vec::new());
        let mut sort = |settled| match settled {
            Settled::Delete(receipt) => {
                deletes.push(receipt);
                deletes.len()
            }
            Settled::Postpone(receipt, seconds) => {
                postpones.push((receipt, seconds));
                postpones.len()
            }
        };
        let until = Instant::now() + LINGER;
        let mut longest = sort(first);
        while longest < BATCH {
            match timeout_at(until, settled.recv()).await {
                Ok(Some(next)) => longest = longest.max(sort(next)),
                Ok(None) | Err(_) => break,
            }
        }
        let Ok(call) = calls.clone().acquire_owned().await else { return };
        let (sqs, url) = (sqs.clone(), url.clone());
        under_way.spawn(async move {
            tokio::join!(delete(&sqs, queue, &url, deletes), postpone(&sqs, queue, &url, postpones));
            drop(call);
        });
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

async fn delete(sqs: &Sqs, queue: &str, url: &str, mut receipts: Vec<String>) {
    if receipts.is_empty() {
        return;
    }
    let until = Instant::now() + TRY_FOR;
    let mut pauses = Pauses::new();
    loop {
        let entries = receipts.iter().enumerate().map(|(place, receipt)| {
            DeleteMessageBatchRequestEntry::builder().id(place.to_string()).receipt_handle(receipt).build()
        });
        let entries = match entries.collect::<Result<Vec<_>, _>>() {
            Ok(entries) => entries,
            Err(error) => return lost(queue, "delete", receipts.len(), &error.to_string()),
        };
        metrics::sqs_call(queue, "delete");
        let call = sqs.client().await.delete_message_batch().queue_url(url).set_entries(Some(entries));
        let error = match timeout_at(until, call.send()).await {
            Err(_) => NO_ANSWER.into(),
            Ok(Ok(answer)) => {
                let again = retryable(queue, "delete", answer.failed());
                receipts = again.into_iter().filter_map(|place| receipts.get(place).cloned()).collect();
                format!("{} entries failed", receipts.len())
            }
            // Gone with its messages.
            Ok(Err(error)) if error.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => return,
            Ok(Err(error)) => format!("{:#}", explain(error)),
        };
        if receipts.is_empty() {
            return;
        }
        let pause = pauses.next();
        if Instant::now() + pause >= until {
            return lost(queue, "delete", receipts.len(), &error);
        }
        tokio::time::sleep(pause).await;
    }
}

async fn postpone(sqs: &Sqs, queue: &str, url: &str, mut receipts: Vec<(String, i32)>) {
    if receipts.is_empty() {
        return;
    }
    let until = Instant::now() + TRY_FOR;
    let mut pauses = Pauses::new();
    loop {
        let entries = receipts.iter().enumerate().map(|(place, (receipt, seconds))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(*seconds)
                .build()
        });
        let entries = match entries.collect::<Result<Vec<_>, _>>() {
            Ok(entries) => entries,
            Err(error) => return lost(queue, "postpone", receipts.len(), &error.to_string()),
        };
        metrics::sqs_call(queue, "postpone");
        let call = sqs.client().await.change_message_visibility_batch().queue_url(url);
        let error = match timeout_at(until, call.set_entries(Some(entries)).send()).await {
            Err(_) => NO_ANSWER.into(),
            Ok(Ok(answer)) => {
                let again = retryable(queue, "postpone", answer.failed());
                receipts = again.into_iter().filter_map(|place| receipts.get(place).cloned()).collect();
                format!("{} entries failed", receipts.len())
            }
            Ok(Err(error)) if error.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => return,
            Ok(Err(error)) => format!("{:#}", explain(error)),
        };
        if receipts.is_empty() {
            return;
        }
        let pause = pauses.next();
        if Instant::now() + pause >= until {
            return lost(queue, "postpone", receipts.len(), &error);
        }
        tokio::time::sleep(pause).await;
    }
}

/// Places of failed entries that another call may help. A receipt that SQS knows no more is no loss: the
/// message has become visible, and comes again.
fn retryable(queue: &str, operation: &str, failed: &[BatchResultErrorEntry]) -> Vec<usize> {
    let mut again = Vec::new();
    for entry in failed {
        match entry.id().parse() {
            Ok(place) if !entry.sender_fault() => again.push(place),
            _ => lost(
                queue,
                operation,
                1,
                &format!("{}: {}", entry.code(), entry.message().unwrap_or_default()),
            ),
        }
    }
    again
}

fn lost(queue: &str, operation: &str, messages: usize, error: &str) {
    metrics::given_up(queue, messages);
    tracing::warn!(
        queue,
        operation,
        messages,
        error,
        "messages could not be settled and will be delivered again"
    );
}
