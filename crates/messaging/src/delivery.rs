//! The boundary between the runtime and the transports: what arrives, and what becomes of it.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::task::JoinHandle;

use crate::{memory, rabbit, sqs};

/// One message, taken from a queue and not settled yet.
pub(crate) struct Delivery {
    pub body: Bytes,
    /// From 1. Includes deliveries that ended with their consumer's death.
    pub attempt: u32,
    pub first_failed_at: Option<DateTime<Utc>>,
    pub token: Token,
}

/// What it takes to settle a delivery.
pub(crate) enum Token {
    Rabbit(Box<rabbit::Token>),
    Sqs(sqs::Token),
    Memory(memory::Token),
}

/// What becomes of a delivery.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The effect is durable: the message goes.
    Done,
    /// Comes back after the pause, which the transport jitters.
    Retry { failure: Failure, pause: Duration },
    /// Goes to the dead letters.
    Dead(Failure),
    /// Comes back at once, for another worker.
    Release,
}

/// What a message that failed carries along.
#[derive(Debug)]
pub(crate) struct Failure {
    /// A word: see [`crate::DeadLetter::reason`].
    pub reason: &'static str,
    /// The error with its causes.
    pub error: String,
    /// Attempts so far, this one included.
    pub attempts: u32,
    pub first_failed_at: DateTime<Utc>,
    pub failed_at: DateTime<Utc>,
}

/// Why a delivery was not settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    /// The delivery is not ours any more; the broker gives the message to somebody again.
    #[error("the delivery is lost: {0}")]
    Lost(String),
    /// The delivery is still ours: to be tried again, or to be given up.
    #[error("{0}")]
    Unavailable(String),
}

impl Token {
    pub async fn settle(&self, verdict: &Verdict, body: &Bytes) -> Result<(), SettleError> {
        match self {
            Self::Rabbit(token) => token.settle(verdict, body).await,
            Self::Sqs(token) => token.settle(verdict, body).await,
            Self::Memory(token) => {
                token.settle(verdict, body);
                Ok(())
            }
        }
    }

    /// Gives back a delivery that can't be settled. On SQS its message comes again after the pause. On RabbitMQ
    /// it comes again at once, ahead of others: only the broker's delivery limit bounds how often.
    pub fn give_up(&self, pause: Duration) {
        match self {
            Self::Rabbit(token) => token.give_up(),
            Self::Sqs(token) => token.give_up(pause),
            // There, every delivery can be settled.
            Self::Memory(_) => {}
        }
    }

    /// Keeps the message ours for as long as this is polled.
    pub async fn keep(&self) -> Infallible {
        match self {
            Self::Sqs(token) => token.keep().await,
            // An open channel is enough.
            Self::Rabbit(_) | Self::Memory(_) => std::future::pending().await,
        }
    }
}

/// Where deliveries come from: one consumer's place at one queue.
pub(crate) enum Source {
    Rabbit(Box<rabbit::Source>),
    Sqs(sqs::Source),
    Memory(memory::Source),
}

impl Source {
    /// Deliveries worth waiting a moment for, so that one call to the broker brings them all.
    pub fn batch(&self) -> Batch {
        match self {
            Self::Rabbit(_) => Batch { most: 32, linger: Duration::ZERO },
            Self::Sqs(_) => Batch { most: 10, linger: Duration::from_millis(20) },
            Self::Memory(_) => Batch { most: 1, linger: Duration::ZERO },
        }
    }

    /// Deliveries, at least one and at most `most`. Cancel-safe. An error means that this source has ended.
    pub async fn receive(&mut self, most: usize) -> anyhow::Result<Vec<Delivery>> {
        match self {
            Self::Rabbit(source) => source.receive(most).await,
            Self::Sqs(source) => source.receive(most).await,
            Self::Memory(source) => Ok(source.receive().await),
        }
    }

    /// Fetches so many more at a time: handlers that held their places have ended.
    pub async fn widen(&mut self, more: usize) -> anyhow::Result<()> {
        match self {
            Self::Rabbit(source) => source.widen(u16::try_from(more).unwrap_or(u16::MAX)).await,
            // They take what they are asked for.
            Self::Sqs(_) | Self::Memory(_) => Ok(()),
        }
    }

    /// Stops taking, and returns what had been taken already.
    pub async fn stop(&mut self) -> Vec<Delivery> {
        match self {
            Self::Rabbit(source) => source.stop().await,
            Self::Sqs(source) => source.stop().await,
            Self::Memory(_) => Vec::new(),
        }
    }

    /// Leaves a source that has ended, with handlers still at work. On SQS they settle all the same; the task ends
    /// when all is written out.
    pub fn abandon(self) -> Option<JoinHandle<()>> {
        match self {
            Self::Sqs(source) => Some(source.abandon()),
            // The broker has taken its messages back.
            Self::Rabbit(_) | Self::Memory(_) => None,
        }
    }

    /// Writes out what is settled, and leaves.
    pub async fn close(self) {
        match self {
            Self::Rabbit(source) => source.close().await,
            Self::Sqs(source) => source.close().await,
            Self::Memory(_) => {}
        }
    }
}

/// How a source wants to be asked.
pub(crate) struct Batch {
    pub most: usize,
    /// How long to wait for more free handlers.
    pub linger: Duration,
}

/// The text, cut to so many bytes at a character.
pub(crate) fn clip(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// 0.8 to 1.0 of a pause, so that what failed together does not come back together.
pub(crate) fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.8..=1.0))
}

/// Growing pauses between attempts to reach a broker: 0.1 s to 5 s, jittered.
pub(crate) struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(5);

    pub fn new() -> Self {
        Self(Self::FIRST)
    }

    pub fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    pub fn next(&mut self) -> Duration {
        let pause = jitter(self.0);
        self.0 = (self.0 * 2).min(Self::LAST);
        pause
    }
}
