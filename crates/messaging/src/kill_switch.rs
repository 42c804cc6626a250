use std::sync::atomic::{AtomicU32, Ordering};

/// Counts failures in a row. Where handlers fail wholesale (a database is away, a deployment is broken),
/// taking more messages only burns their attempts: the queue pauses, then one message is tried.
pub(crate) struct KillSwitch {
    /// 0 turns the switch off.
    after: u32,
    failures: AtomicU32,
}

impl KillSwitch {
    pub fn new(after: u32) -> Self {
        Self { after, failures: AtomicU32::new(0) }
    }

    pub fn succeeded(&self) {
        // Read first: a shared line that is only read costs the happy path nothing.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
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
        switch.failed();
        switch.failed();
        switch.succeeded();
        switch.failed();
        switch.failed();
        assert!(!switch.open());
        switch.failed();
        assert!(switch.open());
        switch.succeeded();
        assert!(!switch.open());
    }

    #[test]
    fn zero_turns_it_off() {
        let switch = KillSwitch::new(0);
        (0..100).for_each(|_| switch.failed());
        assert!(!switch.open());
    }
}
