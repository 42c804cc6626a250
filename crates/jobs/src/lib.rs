//! Long work as a row: state, lease, checkpoint, progress, attempts. The row is the truth and a message
//! about it only a nudge, so that a lost message delays a job and a doubled one changes nothing.
//!
//! - an API calls [`create`] and publishes the first nudge, in one transaction;
//! - a worker's handler calls [`Runner::run`] with a [`Work`], which claims the row, keeps its lease alive,
//!   and writes its end;
//! - a [`Sweeper`] nudges again each job that is due and that nobody holds.
//!
//! A lease is judged by the database's clock and fenced by its claim: every write of its holder compares the
//! claim's epoch and token, so a worker that lost its lease without noticing can write nothing.
//!
//! A job fails after so many attempts without progress. What is progress is told with each checkpoint, as a
//! [`Position`]: only a position above all before gives a job its attempts again.

mod activity;
mod claim;
mod create;
mod doctor;
mod error;
mod job;
mod lease;
mod list;
mod metrics;
mod migration;
pub mod mirror;
mod run;
mod stop;
mod sweep;
pub mod workers;

pub use activity::{Activities, Activity};
pub use claim::{Claim, claim};
pub use create::{Creation, NewJob, create, create_all, reopen, request_cancel};
pub use doctor::doctor;
pub use error::Error;
pub use job::{Job, Position, Progress, State};
pub use lease::{
    Lease, Standing, cancelled, checkpoint, complete, defer, fail, heartbeat, progress, release,
};
pub use list::{Filter, Page, Pages, get, list};
pub use migration::migrations;
pub use run::{JobRun, Outcome, Runner, Work};
pub use sweep::Sweeper;

/// Makes this crate's figures known to the process's metrics before anything happens.
pub fn init_metrics() {
    metrics::init();
}
