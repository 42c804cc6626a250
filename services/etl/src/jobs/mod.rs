//! One file a kind of job: its name, its queue and its work. How they are all run is decided here.

pub mod refetch_resource;
pub mod run_sync;

use std::time::Duration;

use ::jobs::JobKind;
use contracts::Queue;
use messaging::Backoff;

use crate::{SERVICE, config::EtlSettings};

/// A kind of job of this service. One that fails without progress comes back after 2 s, 10 s, 1 min, 5 min, and then
/// every 15 min.
fn kind(name: &'static str, queue: &'static Queue, settings: &EtlSettings) -> JobKind {
    JobKind {
        concurrency: settings.concurrency,
        deadline: settings.deadline,
        lease: settings.lease,
        max_attempts: settings.max_attempts,
        backoff: Backoff { steps: [2, 10, 60, 300, 900].map(Duration::from_secs).to_vec() },
        ..JobKind::new(SERVICE, name, queue)
    }
}
