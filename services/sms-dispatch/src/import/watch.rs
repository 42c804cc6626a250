//! How far an import is: its job's checkpoint and progress, and who looks on.

use std::sync::atomic::{AtomicI64, Ordering};

use jobs::{JobRun, Position, Progress};
use messaging::JobError;
use sea_orm::sqlx::PgConnection;
use serde_json::json;

use crate::storage::batches::Done;

/// What the command line shows while it works.
pub type Show = dyn Fn(&Progress, &str) + Send + Sync;

/// The parts of an import, in their order: what its job's position is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Indexes that an earlier import left away are built, before the load into a table that has contacts.
    Prepare,
    /// Rows are read, cleaned and copied. Its steps are batches.
    Load,
    /// The index that merging needs is built. The steps of both phases of indexes are indexes that are there.
    PhoneIndex,
    /// Staged rows become contacts. Its steps are batches.
    Merge,
    /// All other indexes are built.
    Indexes,
    Vacuum,
    Settle,
}

impl Phase {
    /// The name that people and the checkpoint know.
    const fn name(self) -> &'static str {
        match self {
            Self::Prepare | Self::PhoneIndex | Self::Indexes => "index",
            Self::Load => "load",
            Self::Merge => "merge",
            Self::Vacuum => "vacuum",
            Self::Settle => "settle",
        }
    }
}

/// Counts what the batches did, of this attempt and of those before.
pub struct Watch<'a> {
    run: &'a JobRun,
    show: &'a Show,
    total: Option<i64>,
    processed: AtomicI64,
    failed: AtomicI64,
    /// Batches that are loaded and committed.
    loaded: AtomicI64,
}

impl<'a> Watch<'a> {
    /// Goes on from what earlier attempts did: rows with an outcome, and those of them that were rejected.
    pub fn new(run: &'a JobRun, show: &'a Show, total: Option<i64>, before: (i64, i64)) -> Self {
        Self { run, show, total, processed: before.0.into(), failed: before.1.into(), loaded: 0.into() }
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// What the work must return at once.
    pub fn proceed(&self) -> Result<(), JobError> {
        self.run.proceed()
    }

    /// So many batches are loaded, says the database.
    pub fn has_loaded(&self, batches: i64) {
        self.loaded.store(batches, Ordering::Relaxed);
    }

    /// One batch more is committed.
    pub fn loaded_one(&self) {
        self.loaded.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the checkpoint of a loaded batch into its transaction, the last thing before its commit.
    ///
    /// # Errors
    /// What the work must return at once, after rolling back.
    pub async fn checkpoint(&self, conn: &mut PgConnection, done: &Done) -> Result<(), JobError> {
        let processed = self.processed.fetch_add(done.rows, Ordering::Relaxed) + done.rows;
        let failed = self.failed.fetch_add(done.rejected, Ordering::Relaxed) + done.rejected;
        // Batches are loaded in any order, several at once. This one counts beside those that are committed: what
        // others have written so far may still be rolled back, and must not be taken for reached.
        let step = self.loaded.load(Ordering::Relaxed) + 1;
        self.note(conn, Position::new(Phase::Load as u32, step), Phase::Load, done.batch, processed, failed)
            .await
    }

    /// Writes that a phase without rows of its own came to a step.
    ///
    /// # Errors
    /// As [`Watch::checkpoint`].
    pub async fn step(&self, conn: &mut PgConnection, phase: Phase, step: i64) -> Result<(), JobError> {
        let (processed, failed) =
            (self.processed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        self.note(conn, Position::new(phase as u32, step), phase, step, processed, failed).await
    }

    async fn note(
        &self,
        conn: &mut PgConnection,
        position: Position,
        phase: Phase,
        batch: i64,
        processed: i64,
        failed: i64,
    ) -> Result<(), JobError> {
        let progress = Progress { total: self.total, processed, successful: processed - failed, failed };
        // What is done stands in import_batches; this is for people, and moves with every batch.
        let checkpoint = json!({"phase": phase.name(), "batch": batch});
        self.run.checkpoint(conn, &checkpoint, position, &progress).await?;
        (self.show)(&progress, phase.name());
        Ok(())
    }
}
