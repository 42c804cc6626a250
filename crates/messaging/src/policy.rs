use std::{collections::BTreeSet, time::Duration};

/// How a queue is consumed.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Handlers at work at once; the transport fetches no more than are free.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub deadline: Duration,
    /// Attempts before a message goes to the dead letters.
    pub max_attempts: u32,
    /// The pauses between them.
    pub backoff: Backoff,
    /// How long what became of a message (done, retry, dead letter) may take to reach the broker. After that its
    /// place is free again, and the message goes back to its queue.
    pub settle_within: Duration,
    /// After so many failures in a row, with none succeeding, the queue pauses.
    pub kill_switch_after: u32,
    /// For how long; then one message is tried, and one more after each further pause until one succeeds.
    pub kill_switch_pause: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            concurrency: 8,
            deadline: Duration::from_secs(60),
            max_attempts: 8,
            backoff: Backoff::default(),
            settle_within: Duration::from_secs(30),
            kill_switch_after: 20,
            kill_switch_pause: Duration::from_secs(15),
        }
    }
}

/// Exponential pauses with a cap, off the worker. On RabbitMQ each step is a retry queue of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first failure, the second, …; the last one repeats. Empty means one second each time.
    pub steps: Vec<Duration>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { steps: [1, 5, 25, 120, 600].map(Duration::from_secs).to_vec() }
    }
}

impl Backoff {
    /// The pause after failed attempt number `attempt`, from 1.
    pub fn after(&self, attempt: u32) -> Duration {
        let steps = self.steps();
        steps[(attempt.saturating_sub(1) as usize).min(steps.len() - 1)]
    }

    /// Every pause that [`Backoff::after`] can give, once each.
    pub(crate) fn pauses(&self) -> BTreeSet<Duration> {
        self.steps().iter().copied().collect()
    }

    /// Never empty.
    fn steps(&self) -> &[Duration] {
        const ONE: &[Duration] = &[Duration::from_secs(1)];
        if self.steps.is_empty() { ONE } else { &self.steps }
    }
}
