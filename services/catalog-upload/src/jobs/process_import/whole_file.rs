//! A file that is written whole or not at all: planned first, and then written in one transaction.

use std::{collections::VecDeque, time::Duration};

use anyhow::anyhow;
use failpoints::Point;
use jobs::Progress;
use messaging::JobError;

use super::{
    Pass, Rows,
    checkpoint::{Checkpoint, Phase},
    refused,
    write_batch::{is_conflict, write_batch},
};
use crate::{
    domain::{Claims, Summary},
    files::Others,
    jobs::begin_alone,
    metrics,
    storage::plan,
};

/// How often a whole file is planned again because the catalog changed under it, in one attempt.
const PLANS: usize = 3;

/// How long a file that is written whole may let everybody else wait for its next rows.
const PATIENCE: Duration = Duration::from_secs(20);

impl Pass<'_> {
    /// Two passes over the file: what would become of each row, and, if none is refused, all of them in one
    /// transaction.
    pub(super) async fn all_or_nothing(&self, checkpoint: &mut Checkpoint) -> Result<(), JobError> {
        if self.run.job.checkpoint.is_none() {
            // A refused file that somebody lets start over still has the rejections of its plan.
            self.plan_again(checkpoint).await?;
        }
        for _ in 0..PLANS {
            if let Err(error) = self.by_batches(checkpoint).await {
                if let JobError::Fail(error) = error {
                    // The file ends in the middle: its good rows are refused with it.
                    self.refuse(checkpoint, Some(format!("{error:#}"))).await?;
                    return Err(refused(checkpoint));
                }
                return Err(error);
            }
            if checkpoint.summary().rejected > 0 {
                self.refuse(checkpoint, None).await?;
                return Err(refused(checkpoint));
            }
            self.corrects_some(checkpoint)?;
            if self.write_whole(checkpoint).await? {
                return Ok(());
            }
            // Somebody else's products came in between: see what becomes of the rows now.
            self.plan_again(checkpoint).await?;
        }
        Err(JobError::Retry(anyhow!("the catalog changed under the plan {PLANS} times")))
    }

    /// Forgets the plan, and begins another one.
    async fn plan_again(&self, checkpoint: &mut Checkpoint) -> Result<(), JobError> {
        let mut transaction = self.resources.database.pool.begin().await.map_err(JobError::retry)?;
        plan::forget(&mut transaction, self.import.id).await.map_err(JobError::retry)?;
        *checkpoint = Checkpoint::start(&self.import.options);
        self.checkpoint(&mut transaction, checkpoint, &Progress::default()).await?;
        transaction.commit().await.map_err(JobError::retry)
    }

    /// Writes the whole file in one transaction, which keeps other imports waiting. False: a row was
    /// refused, or somebody was quicker, and nothing is written.
    async fn write_whole(&self, checkpoint: &mut Checkpoint) -> Result<bool, JobError> {
        let mut summary = Summary::default();
        let mut claims = Claims::nothing(self.resources.settings.limits.max_rows);
        // The plan has found the other sheets.
        let mut rows = Rows { batches: self.read(0, Others::PassedOver), read: VecDeque::new(), last_row: 0 };
        // To open and to guard a file takes as long as its sender likes: nobody waits for that.
        let mut next = self.next(&mut rows).await?;
        let mut transaction = begin_alone(&self.resources.database.pool, self.run).await?;
        while let Some(batch) = next {
            let written = match write_batch(&mut transaction, self.import, &batch, None, &claims).await {
                Ok(Some(written)) => written,
                Ok(None) => return Ok(false),
                Err(error) if error.downcast_ref().is_some_and(is_conflict) => return Ok(false),
                Err(error) => return Err(JobError::Retry(error)),
            };
            summary.add(&written.summary);
            if summary.rejected > 0 {
                return Ok(false);
            }
            claims.take(written.accepted);
            self.run.proceed()?;
            let soon = tokio::time::timeout(PATIENCE, self.next(&mut rows)).await;
            next = soon.map_err(|_| {
                JobError::Retry(anyhow!("the file took over {} s to give its next rows", PATIENCE.as_secs()))
            })??;
        }
        plan::carried_out(&mut transaction, self.import.id).await.map_err(JobError::retry)?;
        let mut written = checkpoint.clone().with(&summary);
        written.phase = Phase::Written;
        let progress = written.progress(Some(summary.total));
        let version = self.checkpoint(&mut transaction, &written, &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        metrics::count_rows(&summary);
        *checkpoint = written;
        self.show(version, &progress);
        Ok(true)
    }

    /// Refuses the rows that were planned, because of those that have errors or for what is wrong with the whole file.
    async fn refuse(&self, checkpoint: &mut Checkpoint, reason: Option<String>) -> Result<(), JobError> {
        let mut transaction = self.resources.database.pool.begin().await.map_err(JobError::retry)?;
        let planned = checkpoint.summary();
        let summary =
            plan::refuse(&mut transaction, self.import.id, &planned).await.map_err(JobError::retry)?;
        let mut refused = checkpoint.clone().with(&summary);
        (refused.phase, refused.errors, refused.reason) = (Phase::Refused, planned.rejected, reason);
        let progress = refused.progress(Some(summary.total));
        self.checkpoint(&mut transaction, &refused, &progress).await?;
        transaction.commit().await.map_err(JobError::retry)?;
        metrics::count_rows(&summary);
        *checkpoint = refused;
        Ok(())
    }
}
