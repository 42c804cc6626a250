//! The messages that live in a service's own schema, so that they commit together with its state:
//!
//! - the **outbox**: [`publish`] writes a row in the caller's transaction, [`Relay`] sends it;
//! - the **inbox**: [`inbox::record`] remembers, in the transaction of an effect, that a message had it;
//! - the **dead letters**: [`dead_letters::Archiver`] takes them from the broker into a table where a
//!   person can list, replay and discard them.

pub mod dead_letters;
mod doctor;
mod error;
mod hint;
pub mod inbox;
mod metrics;
mod migration;
mod prune;
mod publish;
mod relay;
mod storable;

pub use doctor::doctor;
pub use error::Error;
pub use migration::migrations;
pub use prune::{Pruned, Pruner, Retention, prune};
pub use publish::{Meta, enqueue, publish, publish_all, publish_to};
pub use relay::Relay;

use sea_orm::sqlx::PgPool;

/// Makes this crate's figures known to the process's metrics, at zero, before anything happens.
pub fn init_metrics() {
    metrics::init();
}

/// How many rows wait in the outbox (counted up to a million) and for how long the oldest does, in
/// seconds. Zeros where none waits.
///
/// # Errors
/// The database can't be reached.
pub async fn backlog(pool: &PgPool) -> Result<(i64, f64), Error> {
    metrics::backlog(pool).await
}
