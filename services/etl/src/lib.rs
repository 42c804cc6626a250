//! Syncs of sources: Bsale, a point of sale, into the sales database, and BigQuery into the collections dashboards.
//!
//! A [`domain::stream::Stream`] is data: where rows come from, and how it advances. A run of one is a row of `jobs`.
//! Rows, counters and where the run goes on commit in one transaction of the database that is written to
//! ([`target::Claim::commit`]); the job's row is a copy.

mod app;
pub mod bsale;
mod bucket;
pub mod collections;
pub mod config;
pub mod domain;
pub mod http;
pub mod jobs;
mod metrics;
pub mod request_run;
mod resources;
pub mod retention;
pub mod scheduler;
pub mod storage;
mod streams;
pub mod target;
pub mod watermarks;

pub use app::{doctor, migrate, run_api, run_worker};
pub use resources::Resources;

/// The service's name, in health, metrics, tables and messages.
pub const SERVICE: &str = "etl";
