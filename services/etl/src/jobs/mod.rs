//! What this service's messages do, a file a message.

pub mod refetch_resource;
pub mod run_sync;

use anyhow::Context as _;
use messaging::JobError;
use uuid::Uuid;

/// The id that a command names.
pub fn job_id(text: &str) -> Result<Uuid, JobError> {
    Uuid::parse_str(text).with_context(|| format!("{text:?} is not a UUID")).map_err(JobError::Fail)
}
