//! How long a caller waits after failed logins.

use std::time::Duration;

/// Exponential waiting with a cap, so that nobody is ever locked out for good: the longest wait is `cap`, and
/// attempts made while waiting are refused without being counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Failures that cost nothing.
    pub free: u32,
    /// The wait after the first failure past `free`. It doubles with each further one.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// Failures older than this are forgotten.
    pub forget: Duration,
}

impl Policy {
    /// For one account from one address: someone guessing a password.
    pub const ACCOUNT: Self = Self {
        free: 5,
        base: Duration::from_secs(2),
        cap: Duration::from_secs(15 * 60),
        forget: Duration::from_secs(60 * 60),
    };

    /// For one address over all accounts: someone trying many. Wide enough for an office behind one address.
    pub const ADDRESS: Self = Self {
        free: 50,
        base: Duration::from_secs(2),
        cap: Duration::from_secs(15 * 60),
        forget: Duration::from_secs(60 * 60),
    };

    /// The wait before the next attempt after so many failures.
    pub fn delay(&self, failures: u32) -> Duration {
        match failures.checked_sub(self.free) {
            None | Some(0) => Duration::ZERO,
            Some(past) => {
                let factor = 2_u32.saturating_pow((past - 1).min(31));
                self.base.saturating_mul(factor).min(self.cap)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_nothing_to_the_cap() {
        let policy = Policy::ACCOUNT;
        let waits: Vec<u64> = (0..=9).map(|failures| policy.delay(failures).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 2, 4, 8, 16]);
        assert_eq!(policy.delay(15).as_secs(), 900);
        assert_eq!(policy.delay(u32::MAX), policy.cap);
    }
}
