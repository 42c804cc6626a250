//! Campaign reports: a date in, one file a campaign out, however many rows.

mod app;
mod asking;
pub mod config;
pub mod domain;
pub mod events;
pub mod files;
mod http;
pub mod jobs;
mod leftovers;
pub mod live;
pub mod load;
mod resources;
pub mod retention;
mod run_end;
pub mod scheduler;
pub mod storage;

pub use app::{doctor, run_api, run_worker};
pub use resources::Resources;

/// The service's name, in health, metrics, tables and messages.
pub const SERVICE: &str = "report";
