//! A circuit breaker a backend: after some failures in a row, requests are answered at once for a
//! moment, instead of each waiting for its own timeout; then one request tries again.
//!
//! A connection that does not come about says something about the backend. An error or a silence may be about
//! the request, so of those each caller has one count: nobody can close a service to others.

use std::{
    collections::HashSet,
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
    /// Connections that did not come about.
    unreachable: u32,
    /// Callers whose requests failed; no more of them than the threshold.
    failed_for: HashSet<String>,
    /// No request before this moment.
    open_until: Option<Instant>,
}

impl Breaker {
    /// Opens for `pause` after `threshold` failures in a row: failed connections, and callers whose requests
    /// failed.
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

    /// No connection came about. Returns whether this opened the circuit.
    pub fn unreachable(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.unreachable = state.unreachable.saturating_add(1);
        self.judge(&mut state, now)
    }

    /// The backend answered a request of `caller` with an error of its own, or not in time. Returns whether
    /// this opened the circuit.
    pub fn failed(&self, caller: &str, now: Instant) -> bool {
        let mut state = self.lock();
        if self.failures(&state) < self.threshold {
            state.failed_for.insert(caller.to_owned());
        }
        self.judge(&mut state, now)
    }

    fn failures(&self, state: &State) -> u32 {
        let callers = u32::try_from(state.failed_for.len()).unwrap_or(u32::MAX);
        state.unreachable.saturating_add(callers)
    }

    fn judge(&self, state: &mut State, now: Instant) -> bool {
        let was_closed = state.open_until.is_none();
        if self.failures(state) >= self.threshold {
            state.open_until = Some(now + self.pause);
        }
        was_closed && state.open_until.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Plain values: a panic elsewhere can't have left them half changed.
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
        assert!(!breaker.unreachable(start));
        breaker.succeeded();
        assert!(!breaker.unreachable(start), "a success starts the count again");
        assert!(breaker.unreachable(start), "the second in a row opens it");
        assert_eq!(breaker.admit(start), Err(PAUSE));
        assert_eq!(breaker.admit(start + PAUSE), Ok(()), "the trial");
        assert!(breaker.admit(start + PAUSE).is_err(), "only one");
        assert!(!breaker.unreachable(start + PAUSE), "was open already");
        assert!(breaker.admit(start + PAUSE).is_err());
        assert_eq!(breaker.admit(start + PAUSE * 2), Ok(()));
        breaker.succeeded();
        assert_eq!(breaker.admit(start + PAUSE * 2), Ok(()));
    }

    #[test]
    fn a_caller_counts_once() {
        let breaker = Breaker::new(2, PAUSE);
        let now = Instant::now();
        for _ in 0..9 {
            assert!(!breaker.failed("ana", now));
        }
        assert_eq!(breaker.admit(now), Ok(()));
        assert!(breaker.failed("eva", now), "a second one");
        assert!(breaker.admit(now).is_err());
        breaker.succeeded();
        assert!(!breaker.failed("eva", now), "a success starts the count again");
        assert!(breaker.unreachable(now), "both kinds add up");
    }
}
