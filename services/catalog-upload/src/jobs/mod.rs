//! One file a kind of job: its name, its queue and its work. How they are all run is decided here.

pub mod annotate_import;
pub mod process_import;
pub mod undo_import;

use std::time::Duration;

use ::jobs::JobKind;
use contracts::Queue;
use messaging::Backoff;

use crate::{SERVICE, config::ImportSettings};

/// A kind of job of this service. One that fails without progress comes back after 1 s, 5 s, 25 s, 2 min, and then every
/// 5 min.
fn kind(name: &'static str, queue: &'static Queue, settings: &ImportSettings) -> JobKind {
    JobKind {
        concurrency: settings.concurrency,
        deadline: settings.deadline,
        lease: settings.lease,
        max_attempts: settings.max_attempts,
        backoff: Backoff { steps: [1, 5, 25, 120, 300].map(Duration::from_secs).to_vec() },
        ..JobKind::new(SERVICE, name, queue)
    }
}
