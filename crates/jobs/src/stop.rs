use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio_util::sync::CancellationToken;

/// Why a worker must stop, by rank: a lost lease forbids every further write; a cancel ends the job for
/// good; a drain only hands it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Why {
    Drain = 1,
    Cancel = 2,
    Lost = 3,
}

/// Tells a job's work to stop, and remembers why. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    why: Arc<AtomicU8>,
    /// Cancelled for any reason: the work stops at its next checkpoint.
    pub token: CancellationToken,
    /// Cancelled when going on is pointless: the work's future is dropped.
    pub lost: CancellationToken,
}

impl Stop {
    /// Tells it. A reason of higher rank replaces one of lower rank.
    pub fn request(&self, why: Why) {
        self.why.fetch_max(why as u8, Ordering::SeqCst);
        self.token.cancel();
        if why == Why::Lost {
            self.lost.cancel();
        }
    }

    pub fn why(&self) -> Option<Why> {
        match self.why.load(Ordering::SeqCst) {
            1 => Some(Why::Drain),
            2 => Some(Why::Cancel),
            3 => Some(Why::Lost),
            _ => None,
        }
    }
}
