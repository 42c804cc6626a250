//! Contacts, clean and unique; segments of them; campaigns to them.

mod app;
pub mod cli;
pub mod config;
pub mod domain;
mod http;
pub mod import;
pub mod jobs;
mod orphans;
pub mod providers;
mod resources;
pub mod storage;
pub mod suppression_lists;
mod turn;
pub mod upkeep;

pub use app::{doctor, run_api, run_worker};
use resources::Resources;

/// The service's name, in health, metrics, tables and messages.
pub const SERVICE: &str = "sms-dispatch";
