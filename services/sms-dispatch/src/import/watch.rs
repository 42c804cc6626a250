//! How far an import is: its job's checkpoint and progress, and who looks on.

use std::sync::atomic::{AtomicI64, Ordering};

use jobs::{JobRun, Progress};
use messaging::JobError;
use sea_orm::sqlx::PgConnection;
use serde_json::json;

use crate::storage::batches::Done;

/// What the command line shows while it works.
pub type Show = dyn Fn(&Progress, &str) + Send + Sync;

/// Counts what the batches did, of this attempt and of those before.
pub struct Watch<'a> {
    run: &'a JobRun,
    show: &'a Show,
    total: Option<i64>,
    processed: AtomicI64,
    failed: AtomicI64,
}

impl<'a> Watch<'a> {
    /// Goes on from what earlier attempts did: rows with an outcome, and those of them that were rejected.
    pub fn new(run: &'a JobRun, show: &'a Show, total: Option<i64>, before: (i64, i64)) -> Self {
        Self { run, show, total, processed: before.0.into(), failed: before.1.into() }
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// What the work must return at once.
    pub fn proceed(&self) -> Result<(), JobError> {
        self.run.proceed()
    }

    /// Writes the checkpoint of a batch into its transaction, the last thing before its commit.
    ///
    /// # Errors
    /// What the work must return at once, after rolling back.
    pub async fn checkpoint(&self, conn: &mut PgConnection, done: &Done) -> Result<(), JobError> {
        let processed = self.processed.fetch_add(done.rows, Ordering::Relaxed) + done.rows;
        let failed = self.failed.fetch_add(done.rejected, Ordering::Relaxed) + done.rejected;
        self.note(conn, done.phase, done.batch, processed, failed).await
    }

    /// Writes that a phase without rows of its own came to a step.
    ///
    /// # Errors
    /// As [`Watch::checkpoint`].
    pub async fn step(&self, conn: &mut PgConnection, phase: &str, step: i64) -> Result<(), JobError> {
        let (processed, failed) =
            (self.processed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        self.note(conn, phase, step, processed, failed).await
    }

    async fn note(
        &self,
        conn: &mut PgConnection,
        phase: &str,
        batch: i64,
        processed: i64,
        failed: i64,
    ) -> Result<(), JobError> {
        let progress = Progress { total: self.total, processed, successful: processed - failed, failed };
        // What is done stands in import_batches; this is for people, and moves with every batch.
        self.run.checkpoint(conn, &json!({"phase": phase, "batch": batch}), &progress).await?;
        (self.show)(&progress, phase);
        Ok(())
    }
}
