//! Writing a file of new products, as most are: two batches at a time, each on a connection of its own.
//!
//! Rows that share no id and no code with a row before them are created without a look at what is there: the unique
//! constraints tell where something is taken. What becomes of the other rows is decided once the batch before is
//! committed, and batches are committed in the order of the file. Where a constraint speaks up, the file isn't
//! one of those, and the batches in hand are given back, to be written one after the other (ADR 0013).

use std::{collections::VecDeque, future, sync::Arc};

use messaging::JobError;
use sea_orm::sqlx::{self, Postgres, Transaction};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Pass,
    batches::{Batch, Batches},
    checkpoint::Checkpoint,
    file_error,
    write_batch::{is_conflict, write_rest},
};
use crate::{
    domain::{Claims, ProductRow},
    storage::batch as table,
};

/// Batches in hand: one is finished while the next is copied.
const AHEAD: usize = 2;

/// A batch on its way into the catalog.
struct InHand {
    batch: Arc<Batch>,
    /// Of each of its valid rows, whether it is apart from all before.
    apart: Arc<[bool]>,
    copying: AbortOnDropHandle<sqlx::Result<Copied>>,
}

/// The transaction that has the rows that are apart, and the version that it gave them.
struct Copied {
    transaction: Transaction<'static, Postgres>,
    version: i64,
}

/// What is left of a file, to be written batch by batch.
pub(super) struct Left {
    /// Batches that were read.
    pub read: Vec<Arc<Batch>>,
    /// How the reading ended, if it has: there is nothing behind those batches.
    pub end: Option<Result<(), JobError>>,
}

impl Pass<'_> {
    /// Writes the file from its first row on, up to its end or to the first batch that meets products that are there.
    pub(super) async fn write_ahead(
        &self,
        batches: &mut Batches,
        checkpoint: &mut Checkpoint,
        claims: &mut Claims,
    ) -> Result<Left, JobError> {
        let mut in_hand: VecDeque<InHand> = VecDeque::with_capacity(AHEAD);
        let (mut last_row, mut end, mut turn) = (0, None, None);
        while end.is_none() || !in_hand.is_empty() {
            let has_room = end.is_none() && in_hand.len() < AHEAD;
            let first_copied = async {
                match in_hand.front_mut() {
                    Some(first) => (&mut first.copying).await,
                    None => future::pending().await,
                }
            };
            let copied = tokio::select! {
                read = batches.recv(), if has_room => {
                    match read {
                        Some(Ok(batch)) => {
                            let batch = self.selected(batch, last_row).await?;
                            last_row = batch.last_row;
                            in_hand.push_back(self.copy(batch, claims, &mut turn));
                        }
                        // What was read before the error is written first.
                        Some(Err(error)) => end = Some(Err(file_error(error))),
                        None => end = Some(Ok(())),
                    }
                    continue;
                }
                copied = first_copied => copied.map_err(JobError::retry)?,
            };
            let Some(InHand { batch, apart, .. }) = in_hand.pop_front() else { continue };
            if self.finish(&batch, &apart, copied, checkpoint, claims).await? {
                self.run.proceed()?;
                continue;
            }
            let mut read = vec![batch];
            for InHand { batch, copying, .. } in in_hand {
                if let Ok(Ok(copied)) = copying.await {
                    copied.transaction.rollback().await.map_err(JobError::retry)?;
                }
                read.push(batch);
            }
            return Ok(Left { read, end });
        }
        Ok(Left { read: Vec::new(), end })
    }

    /// Starts to create the products of the rows that are apart.
    /// `turn`: open until the batch before has begun its transaction, and then until this one has.
    fn copy(&self, batch: Batch, claims: &mut Claims, turn: &mut Option<mpsc::Sender<()>>) -> InHand {
        let (open, begun) = mpsc::channel::<()>(1);
        let before = turn.replace(open);
        let apart: Arc<[bool]> = claims.apart(&batch.valid).into();
        let batch = Arc::new(batch);
        let copying = tokio::spawn({
            let (batch, apart) = (Arc::clone(&batch), Arc::clone(&apart));
            let (pool, import) = (self.resources.database.pool.clone(), self.import.id);
            let proveedor_id = self.import.source.proveedor_id.clone();
            async move {
                // Turns are taken in the order of the file: who waits to be alone must find none behind them whose
                // batch before stands after them.
                if let Some(before) = before {
                    before.closed().await;
                }
                let mut transaction = pool.begin().await?;
                // Not before this task: who waits for their turn must not keep the batch before from its end.
                let version = table::begin_beside_others(&mut transaction).await?;
                drop(begun);
                let rows: Vec<&ProductRow> = batch
                    .valid
                    .iter()
                    .zip(&*apart)
                    .filter(|(_, apart)| **apart)
                    .map(|(row, _)| row)
                    .collect();
                match table::insert(&mut transaction, Some(import), &rows, &proveedor_id, version).await {
                    Ok(()) => Ok(Copied { transaction, version }),
                    Err(error) => {
                        transaction.rollback().await?;
                        Err(error)
                    }
                }
            }
        });
        InHand { batch, apart, copying: AbortOnDropHandle::new(copying) }
    }

    /// Decides the other rows and commits the batch. False: it meets products that are there, and nothing is written.
    async fn finish(
        &self,
        batch: &Batch,
        apart: &[bool],
        copied: sqlx::Result<Copied>,
        checkpoint: &mut Checkpoint,
        claims: &mut Claims,
    ) -> Result<bool, JobError> {
        let Copied { mut transaction, version } = match copied {
            Ok(copied) => copied,
            Err(error) if is_conflict(&error) => return Ok(false),
            Err(error) => return Err(JobError::retry(error)),
        };
        match write_rest(&mut transaction, self.import, version, batch, apart, claims).await {
            Ok(Some(written)) => {
                *checkpoint = self.commit(transaction, batch, checkpoint, &written).await?;
                claims.take(written.accepted);
                return Ok(true);
            }
            Ok(None) => {}
            Err(error) if error.downcast_ref().is_some_and(is_conflict) => {}
            Err(error) => return Err(JobError::Retry(error)),
        }
        transaction.rollback().await.map_err(JobError::retry)?;
        Ok(false)
    }
}
