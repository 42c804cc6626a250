//! What every transport knows: a message that arrived, and what becomes of it.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

/// One message, taken from a queue and not settled yet. `T` is what it takes to settle it.
pub(crate) struct Delivery<T> {
    pub body: Bytes,
    /// From 1. Includes deliveries that ended with their consumer's death.
    pub attempt: u32,
    pub first_failed_at: Option<DateTime<Utc>>,
    pub token: T,
}

impl<T> Delivery<T> {
    /// The same with what settles it in another wrapping.
    pub fn map<U>(self, wrap: impl FnOnce(T) -> U) -> Delivery<U> {
        let Self { body, attempt, first_failed_at, token } = self;
        Delivery { body, attempt, first_failed_at, token: wrap(token) }
    }
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
