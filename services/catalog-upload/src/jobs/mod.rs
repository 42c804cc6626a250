//! What this service's messages do, a file a message.

pub mod annotate_import;
mod batches;
mod checkpoint;
mod plan_batch;
pub mod process_import;
pub mod undo_import;
mod write_ahead;
mod write_batch;

pub use write_batch::{Change, publish_changes};
