//! BigQuery over its REST API (<https://cloud.google.com/bigquery/docs/reference/rest>): jobs under ids of ours, pages of
//! their results, cells.

mod auth;
mod cells;
mod client;
mod settings;

pub use auth::ServiceAccount;
pub use cells::{Cell, Drift, Field, cells, decode};
pub use client::{Begun, BigQueryError, Client, Page, Parameter};
pub use settings::{BigQuerySettings, SourceTable};
