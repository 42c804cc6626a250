//! Supplier catalogs: workbooks in, products out, every row accounted for.

mod annotations;
mod app;
mod changes;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod files;
mod http;
mod indexer;
mod jobs;
pub mod live;
mod metrics;
mod resources;
mod results;
pub mod retention;
mod spool;
pub mod status;
pub mod storage;
mod tasks;
mod uploads;

pub use app::{run_api, run_worker};
pub use resources::Resources;

/// The service's name, in health, metrics, tables and messages.
pub const SERVICE: &str = "catalog-upload";
