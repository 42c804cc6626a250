//! What every Lote process shares: configuration, telemetry, connections that wait for their server,
//! the HTTP server with its problems and health, the check of tokens, and shutdown.

pub mod admin;
pub mod auth;
pub mod background;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connections;
pub mod db;
pub mod disk;
pub mod doctor;
pub mod http;
pub mod idempotency;
pub mod lock;
pub mod metrics;
pub mod mysql;
pub mod redis;
pub mod s3;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

/// The version of this build: that of all crates of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

mod client;
mod migration;

pub use client::http_client;
pub use clock::Clock;
pub use http::{ApiResult, Problem};
pub use migration::{SqlMigration, migrations, migrations_with};
#[doc(hidden)]
pub use pastey;
