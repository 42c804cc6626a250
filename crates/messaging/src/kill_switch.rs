use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

/// Counts failures in a row. Where handlers fail wholesale (a database is away, a deployment is broken),
/// taking more messages only burns their attempts: the queue pauses, then one message is tried in each pause until
/// one succeeds.
pub(crate) struct KillSwitch {
    /// 0 turns the switch off.
    after: u32,
    failures: AtomicU32,
    closing: Notify,
}

impl KillSwitch {
    pub fn new(after: u32) -> Self {
        Self { after, failures: AtomicU32::new(0), closing: Notify::new() }
    }

    /// `true` if this success closed it.
    pub fn succeeded(&self) -> bool {
        // Read first: a shared line that is only read costs the happy path nothing.
        if self.failures.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let failures = self.failures.swap(0, Ordering::Relaxed);
        let closed = self.after > 0 && failures >= self.after;
        if closed {
            self.closing.notify_waiters();
        }
        closed
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        // Made before the look: a success in between is not missed.
        let closing = self.closing.notified();
        if self.open() {
            closing.await;
        }
    }

    /// `true` if this failure opened it.
    pub fn failed(&self) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed).checked_add(1) == Some(self.after)
    }

    pub fn open(&self) -> bool {
        self.after > 0 && self.failures.load(Ordering::Relaxed) >= self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_closes_with_a_success() {
        let switch = KillSwitch::new(3);
        assert!(!switch.failed() && !switch.failed());
        assert!(!switch.succeeded());
        assert!(!switch.failed() && !switch.failed());
        assert!(!switch.open());
        assert!(switch.failed());
        assert!(switch.open());
        assert!(!switch.failed(), "it is open already");
        assert!(switch.succeeded());
        assert!(!switch.open());
    }

    #[tokio::test]
    async fn whoever_waits_hears_that_it_closed() {
        let switch = KillSwitch::new(1);
        switch.closed().await;
        assert!(switch.failed());
        let closed = switch.closed();
        tokio::pin!(closed);
        assert!(futures::poll!(&mut closed).is_pending());
        assert!(switch.succeeded());
        closed.await;
    }

    #[test]
    fn zero_turns_it_off() {
        let switch = KillSwitch::new(0);
        assert!((0..100).all(|_| !switch.failed()));
        assert!(!switch.open() && !switch.succeeded());
    }
}
