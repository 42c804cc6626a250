//! Queues in this process, for unit tests of handlers: delivery, retry and failure. Nothing survives the
//! process, nothing is redelivered after a crash.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use crate::{
    Depth,
    dead_letter::DeadLetter,
    delivery::{Delivery, Failure, Verdict, jitter},
};

/// All queues, by logical name.
#[derive(Default)]
pub(crate) struct Memory {
    queues: Mutex<HashMap<&'static str, Arc<MemoryQueue>>>,
}

#[derive(Default)]
struct MemoryQueue {
    ready: Mutex<VecDeque<Item>>,
    arrived: Notify,
    dead: Mutex<VecDeque<Letter>>,
    died: Notify,
}

struct Item {
    body: Bytes,
    attempt: u32,
    first_failed_at: Option<DateTime<Utc>>,
}

struct Letter {
    body: Bytes,
    reason: &'static str,
    error: String,
    attempts: u32,
    first_failed_at: DateTime<Utc>,
    failed_at: DateTime<Utc>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryQueue {
    fn push(&self, item: Item) {
        locked(&self.ready).push_back(item);
        self.arrived.notify_one();
    }
}

impl Memory {
    fn queue(&self, name: &'static str) -> Arc<MemoryQueue> {
        locked(&self.queues).entry(name).or_default().clone()
    }

    pub fn publish(&self, queue: &'static str, body: Bytes) {
        self.queue(queue).push(Item { body, attempt: 1, first_failed_at: None });
    }

    pub fn open(&self, queue: &'static str) -> Source {
        Source { queue: self.queue(queue) }
    }

    pub fn depth(&self, queue: &'static str) -> Depth {
        let queue = self.queue(queue);
        let (ready, dead) = (locked(&queue.ready).len() as u64, locked(&queue.dead).len() as u64);
        Depth { ready, in_flight: 0, dead, oldest_age: None }
    }

    pub async fn letter(&self, name: &'static str) -> DeadLetter {
        let queue = self.queue(name);
        loop {
            if let Some(letter) = locked(&queue.dead).pop_front() {
                let Letter { body, reason, error, attempts, first_failed_at, failed_at } = letter;
                return DeadLetter {
                    reason: reason.into(),
                    error,
                    attempts,
                    first_failed_at: Some(first_failed_at),
                    failed_at,
                    ..DeadLetter::read(body, name, None)
                };
            }
            queue.died.notified().await;
        }
    }
}

pub(crate) struct Source {
    queue: Arc<MemoryQueue>,
}

impl Source {
    pub async fn receive(&mut self) -> Delivery<Token> {
        loop {
            if let Some(item) = locked(&self.queue.ready).pop_front() {
                let token = Token { queue: self.queue.clone(), attempt: item.attempt };
                return Delivery {
                    body: item.body,
                    attempt: item.attempt,
                    first_failed_at: item.first_failed_at,
                    token,
                };
            }
            self.queue.arrived.notified().await;
        }
    }
}

pub(crate) struct Token {
    queue: Arc<MemoryQueue>,
    attempt: u32,
}

impl Token {
    pub fn settle(&self, verdict: &Verdict, body: &Bytes) {
        match verdict {
            Verdict::Done => {}
            Verdict::Retry { failure: Failure { attempts, first_failed_at, .. }, pause } => {
                let item = Item {
                    body: body.clone(),
                    attempt: attempts + 1,
                    first_failed_at: Some(*first_failed_at),
                };
                let (queue, pause) = (self.queue.clone(), jitter(*pause));
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    queue.push(item);
                });
            }
            Verdict::Dead(failure) => {
                locked(&self.queue.dead).push_back(Letter {
                    body: body.clone(),
                    reason: failure.reason,
                    error: failure.error.clone(),
                    attempts: failure.attempts,
                    first_failed_at: failure.first_failed_at,
                    failed_at: failure.failed_at,
                });
                self.queue.died.notify_one();
            }
            Verdict::Release => {
                self.queue.push(Item { body: body.clone(), attempt: self.attempt, first_failed_at: None });
            }
        }
    }
}
