//! Campaign reports: a date in, one file a campaign out, however many rows.

mod abandoned_uploads;
mod app;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod events;
pub mod files;
mod finish_run;
mod http;
pub mod jobs;
pub mod live;
pub mod load;
mod metrics;
mod request_run;
mod resources;
pub mod retention;
pub mod scheduler;
pub mod storage;

pub use app::{run_api, run_worker};
pub use resources::Resources;

/// The service's name, in health, metrics, tables and messages.
pub const SERVICE: &str = "report";
