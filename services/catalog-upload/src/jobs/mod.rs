//! What this service's messages do, a file a message.

mod batches;
pub mod process_import;
mod write_batch;
