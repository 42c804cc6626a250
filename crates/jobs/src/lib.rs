//! Long work as a row: state, lease, checkpoint, progress, attempts. The row is the truth and a message
//! about it only a nudge, so that a lost message delays a job and a doubled one changes nothing.
//!
//! A service says what it runs in one place, a line each: a [`JobKind`] (its name, its queue, and how often and for how
//! long it is tried) and a [`Work`] (what it does), in a [`Jobs`]. From then on:
//!
//! - an API calls [`JobKind::create`], which writes the row and its message in the caller's transaction;
//! - a worker's [`Jobs::consumers`] claim the row, keep its lease alive, and write its end;
//! - [`Jobs::sweepers`] nudge again each job that is due and that nobody holds.
//!
//! There is one message for all kinds, `lote.jobs.v1.RunJob`: the job's id and its kind.
//!
//! ```no_run
#![doc = include_str!("../examples/count_stock.rs")]
//! ```
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
mod keys;
mod kind;
mod lease;
mod list;
mod metrics;
mod migration;
pub mod mirror;
mod registry;
mod retention;
mod run;
mod stop;
mod sweep;
pub mod workers;

pub use activity::{Activities, Activity};
pub use claim::{Claim, claim};
pub use create::{
    Creation, NewJob, create, lock, reopen, reopen_all, request_cancel, request_cancel_all, start_over,
};
pub use doctor::doctor;
pub use error::Error;
pub use job::{Job, Position, Progress, State};
pub use keys::{join, keyed};
pub use kind::JobKind;
pub use lease::{
    Lease, Standing, cancelled, checkpoint, complete, defer, fail, heartbeat, postpone, progress, release,
};
pub use list::{Filter, Page, Pages, get, get_all, list};
pub use migration::migrations;
pub use registry::Jobs;
pub use retention::delete_ended;
pub use run::{JobRun, Outcome, Runner, Work};
pub use sweep::Sweeper;

/// Makes this crate's figures known to the process's metrics before anything happens.
pub fn init_metrics() {
    metrics::init();
}
