//! Writing a file that meets products: batch by batch, each over what its rows meet. The next one is looked up and decided
//! while one is written, as if that had been done; where it comes out otherwise, the next one is decided again (ADR 0017).

use std::sync::Arc;

use anyhow::anyhow;
use messaging::JobError;

use super::{
    Pass, Rows,
    batches::Batch,
    checkpoint::Checkpoint,
    write_batch::{Decided, decide_ahead, is_conflict, write_batch, write_decided},
};
use crate::{
    domain::{Accepted, Claims, ProductRow},
    jobs::begin_alone,
    storage::batch::{self as table, Met},
};

/// How often a batch is decided again because somebody was quicker, in one attempt.
const TRIES: usize = 5;

/// A batch that comes next: decided, or, where it has to wait for the one before, with what its rows met.
struct Ahead {
    batch: Arc<Batch>,
    found: Result<Decided, Met>,
}

impl Ahead {
    /// The batch with what its rows met, to be decided over again.
    fn undone(self) -> (Arc<Batch>, Met) {
        (self.batch, self.found.map_or_else(|met| met, Decided::undone))
    }
}

impl Pass<'_> {
    /// Writes what is left of a file.
    pub(super) async fn look_ahead(
        &self,
        mut rows: Rows,
        checkpoint: &mut Checkpoint,
        claims: &mut Claims,
    ) -> Result<(), JobError> {
        let mut next = self.next_ahead(&mut rows, claims).await;
        while let Some(Ahead { batch, found }) = next? {
            let following = match found {
                Ok(decided) => {
                    claims.take(decided.accepted.clone());
                    let (written, following) = tokio::join!(
                        self.write_decided(&batch, decided, checkpoint),
                        self.next_ahead(&mut rows, claims)
                    );
                    if let Some(after) = written? {
                        *checkpoint = after;
                        following
                    } else {
                        // What becomes of its rows is not what the next one was decided over.
                        claims.give_back();
                        let (after, accepted) = self.write(&batch, None, checkpoint, claims).await?;
                        *checkpoint = after;
                        claims.take(accepted);
                        following.map(|next| next.map(|next| self.ahead(next.undone(), claims)))
                    }
                }
                Err(met) => {
                    let (written, following) = tokio::join!(
                        self.write(&batch, Some(met), checkpoint, claims),
                        self.next_met(&mut rows)
                    );
                    let (after, accepted) = written?;
                    *checkpoint = after;
                    claims.take(accepted);
                    following.map(|next| next.map(|next| self.ahead(next, claims)))
                }
            };
            self.run.proceed()?;
            next = following;
        }
        Ok(())
    }

    /// The next batch with the products that its rows meet now.
    async fn next_met(&self, rows: &mut Rows) -> Result<Option<(Arc<Batch>, Met)>, JobError> {
        let Some(batch) = self.next(rows).await? else { return Ok(None) };
        let valid: Vec<&ProductRow> = batch.valid.iter().collect();
        let mut conn = self.resources.database.pool.acquire().await.map_err(JobError::retry)?;
        let met = table::look_up(&mut conn, self.import.id, &valid, &batch.absent).await;
        drop(valid);
        Ok(Some((batch, met.map_err(JobError::retry)?)))
    }

    /// The next batch, decided as far as it can be.
    async fn next_ahead(&self, rows: &mut Rows, claims: &Claims) -> Result<Option<Ahead>, JobError> {
        let next = self.next_met(rows).await?;
        Ok(next.map(|next| self.ahead(next, claims)))
    }

    fn ahead(&self, (batch, met): (Arc<Batch>, Met), claims: &Claims) -> Ahead {
        let found = decide_ahead(self.import.into(), &batch, met, claims);
        Ahead { batch, found }
    }

    /// Writes a batch that is decided, its ledger and its checkpoint in one transaction. None: somebody was quicker, and
    /// nothing is written.
    async fn write_decided(
        &self,
        batch: &Batch,
        decided: Decided,
        before: &Checkpoint,
    ) -> Result<Option<Checkpoint>, JobError> {
        let mut transaction = begin_alone(&self.resources.database.pool, self.run).await?;
        match write_decided(&mut transaction, self.import, batch, decided).await {
            Ok(Some(written)) => return self.commit(transaction, batch, before, &written).await.map(Some),
            Ok(None) => {}
            Err(error) if error.downcast_ref().is_some_and(is_conflict) => {}
            Err(error) => return Err(JobError::Retry(error)),
        }
        transaction.rollback().await.map_err(JobError::retry)?;
        Ok(None)
    }

    /// Writes a batch likewise, decided over what its rows meet, which is looked up here unless it was; gives what they claim,
    /// too.
    async fn write(
        &self,
        batch: &Batch,
        mut met: Option<Met>,
        before: &Checkpoint,
        claims: &Claims,
    ) -> Result<(Checkpoint, Accepted), JobError> {
        for _ in 0..TRIES {
            let mut transaction = begin_alone(&self.resources.database.pool, self.run).await?;
            match write_batch(&mut transaction, self.import, batch, met.take(), claims).await {
                Ok(Some(written)) => {
                    let after = self.commit(transaction, batch, before, &written).await?;
                    return Ok((after, written.accepted));
                }
                Ok(None) => {}
                Err(error) if error.downcast_ref().is_some_and(is_conflict) => {}
                Err(error) => return Err(JobError::Retry(error)),
            }
            // Somebody was quicker: see what becomes of the rows now.
            transaction.rollback().await.map_err(JobError::retry)?;
        }
        Err(JobError::Retry(anyhow!("the catalog changed under a batch {TRIES} times")))
    }
}
