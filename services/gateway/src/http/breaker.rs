//! A circuit breaker a backend: after some failures in a row, requests are answered at once for a
//! moment, instead of each waiting for its own timeout; then one request tries again.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Guards one backend.
#[derive(Debug)]
pub struct Breaker {
    threshold: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// No request before this moment.
    open_until: Option<Instant>,
}

impl Breaker {
    /// Opens for `pause` after `threshold` failures in a row.
    pub fn new(threshold: u32, pause: Duration) -> Self {
        Self { threshold, pause, state: Mutex::default() }
    }

    /// Whether a request may go out at `now`; otherwise, how long it would have to wait. Once the pause
    /// is over, one request a pause passes until one has succeeded.
    ///
    /// # Errors
    /// The circuit is open; the value is the rest of the pause.
    pub fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        match state.open_until {
            None => Ok(()),
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                // This request is the trial. If its outcome is never reported (its client went away),
                // the next trial is one pause later.
                state.open_until = Some(now + self.pause);
                Ok(())
            }
        }
    }

    /// The backend answered.
    pub fn succeeded(&self) {
        *self.lock() = State::default();
    }

    /// The backend could not be reached or did not answer in time. Returns whether this opened the circuit.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        let was_closed = state.open_until.is_none();
        if state.failures >= self.threshold {
            state.open_until = Some(now + self.pause);
        }
        was_closed && state.open_until.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Two plain values: a panic elsewhere can't have left them half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    #[test]
    fn opens_after_failures_in_a_row_and_tries_once_a_pause() {
        let breaker = Breaker::new(2, PAUSE);
        let start = Instant::now();
        assert!(!breaker.failed(start));
        breaker.succeeded();
        assert!(!breaker.failed(start), "a success starts the count again");
        assert!(breaker.failed(start), "the second in a row opens it");
        assert_eq!(breaker.admit(start), Err(PAUSE));
        assert_eq!(breaker.admit(start + PAUSE), Ok(()), "the trial");
        assert!(breaker.admit(start + PAUSE).is_err(), "only one");
        assert!(!breaker.failed(start + PAUSE), "was open already");
        assert!(breaker.admit(start + PAUSE).is_err());
        assert_eq!(breaker.admit(start + PAUSE * 2), Ok(()));
        breaker.succeeded();
        assert_eq!(breaker.admit(start + PAUSE * 2), Ok(()));
    }
}
