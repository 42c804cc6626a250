//! Contacts, clean and unique; segments of them; campaigns to them.

pub mod accounts;
pub mod advisory_lock;
pub mod again;
mod app;
pub mod approvals;
pub mod buckets;
pub mod campaign_preview;
pub mod campaigns;
pub mod cli;
pub mod closings;
pub mod config;
pub mod contact_files;
pub mod doctor;
pub mod domain;
pub mod feeder;
pub mod help;
mod http;
pub mod import;
pub mod in_flight;
pub mod jobs;
pub mod live;
mod metrics;
pub mod opt_outs;
mod orphans;
mod places;
pub mod providers;
pub mod reconciler;
pub mod report_writer;
pub mod reports;
mod resources;
pub mod retention;
pub mod settle;
pub mod singles;
pub mod start_campaign;
pub mod storage;
pub mod suppression_lists;
pub mod texts;
pub mod upkeep;
pub mod watch;

pub use app::{run_api, run_worker};
use resources::Resources;

/// The service's name, in health, metrics, tables and messages.
pub const SERVICE: &str = "sms-dispatch";
