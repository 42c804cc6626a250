//! The first phase: rows are read, cleaned and copied, several batches at once, each with its checkpoint in the
//! transaction of its rows.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use failpoints::Point;
use futures::future::try_join_all;
use messaging::JobError;
use sea_orm::sqlx::{PgConnection, PgPool};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{
    csv::Place,
    encode::{CONTACT_COLUMNS, Common, Counts, Encoder, Pushed, REJECT_COLUMNS, STAGED_COLUMNS},
    source::{Batch, Batches, Source},
    watch::Watch,
};
use crate::{
    domain::numbering_plan::NumberingPlan,
    metrics,
    storage::batches::{self, BatchPhase, Done},
};

/// The encoder's stream is handed on in pieces of this many bytes.
const PIECE: usize = 256 << 10;

/// How many pieces may wait between the reader and PostgreSQL: that much runs ahead, and no more.
const PIECES: usize = 4;

/// Everything the phase needs.
pub struct Load<'a> {
    pub pool: &'a PgPool,
    pub source: &'a Arc<Source>,
    pub common: &'a Arc<Common>,
    pub plan: &'a Arc<NumberingPlan>,
    pub watch: &'a Watch<'a>,
    /// Rows a batch.
    pub batch: i64,
    /// Batches at once.
    pub workers: usize,
}

/// What a reader found.
struct Read {
    rest: Bytes,
    staged: Bytes,
    rejects: Bytes,
    counts: Counts,
    next: Option<Place>,
}

impl Load<'_> {
    /// Loads every batch that is not loaded yet.
    ///
    /// # Errors
    /// [`JobError::Fail`] for a source that can't be read, else what stops the work for now.
    pub async fn run(&self) -> Result<(), JobError> {
        loop {
            let done = batches::loaded(self.pool, self.common.import).await.map_err(JobError::retry)?;
            self.watch.has_loaded(i64::try_from(done.len()).map_err(JobError::fail)?);
            let batches = Batches::new(self.source, self.batch, &done).map_err(JobError::Fail)?;
            let batches = Mutex::new(batches);
            let some =
                try_join_all((0..self.source.readers(self.workers)).map(|_| self.work(&batches))).await?;
            // Commits are not waited for until they are on disk: a server that died may have forgotten some, and then
            // they are done again.
            if !some.contains(&true) {
                return Ok(());
            }
        }
    }

    /// Takes batch after batch; tells whether there was one.
    async fn work(&self, batches: &Mutex<Batches>) -> Result<bool, JobError> {
        let mut some = false;
        loop {
            let next = batches
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next_batch()
                .map_err(JobError::Fail)?;
            let Some(batch) = next else { return Ok(some) };
            some = true;
            let end = self.load(&batch).await?;
            batches.lock().unwrap_or_else(PoisonError::into_inner).ended(end);
            self.watch.proceed()?;
        }
    }

    /// Loads one batch.
    async fn load(&self, batch: &Batch) -> Result<Option<Place>, JobError> {
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        batches::relax(&mut transaction).await.map_err(JobError::retry)?;
        let (pieces, mut ahead) = mpsc::channel(PIECES);
        let reader = tokio::task::spawn_blocking({
            let (batch, source) = (batch.clone(), Arc::clone(self.source));
            let (common, plan) = (Arc::clone(self.common), Arc::clone(self.plan));
            move || read(&batch, &source, &common, &plan, &pieces)
        });
        let reader = AbortOnDropHandle::new(reader);

        let statement = format!("copy contacts ({CONTACT_COLUMNS}) from stdin (format binary)");
        let mut copy = transaction.copy_in_raw(&statement).await.map_err(JobError::retry)?;
        while let Some(piece) = ahead.recv().await {
            copy.send(piece).await.map_err(JobError::retry)?;
        }
        let read = reader.await.map_err(JobError::retry)?.map_err(JobError::Fail)?;
        copy.send(read.rest).await.map_err(JobError::retry)?;
        copy.finish().await.map_err(JobError::retry)?;

        let Counts { rows, loaded, staged, rejected, repaired } = read.counts;
        for (table, columns, rows, data) in [
            ("import_staged", STAGED_COLUMNS, staged, read.staged),
            ("contact_rejects", REJECT_COLUMNS, rejected, read.rejects),
        ] {
            if rows > 0 {
                copy_in(&mut transaction, table, columns, data).await.map_err(JobError::retry)?;
            }
        }
        let done = Done {
            phase: BatchPhase::Load,
            batch: batch.number,
            rows,
            created: loaded,
            staged,
            rejected,
            repaired: i64::try_from(repaired).map_err(JobError::fail)?,
            position: read.next.as_ref().map(serde_json::to_value).transpose().map_err(JobError::fail)?,
            ..Done::default()
        };
        batches::record(&mut transaction, self.common.import, &done).await.map_err(JobError::retry)?;
        self.watch.checkpoint(&mut transaction, &done).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        metrics::count_rows(&done);
        self.watch.loaded_one();
        failpoints::hit(Point::BatchCommitted);
        Ok(read.next)
    }
}

/// Reads and encodes a batch, on a thread of its own. Where nobody takes the pieces any more, it stops.
fn read(
    batch: &Batch,
    source: &Source,
    common: &Common,
    plan: &NumberingPlan,
    pieces: &mpsc::Sender<Bytes>,
) -> anyhow::Result<Read> {
    let mut encoder = Encoder::new(common, plan);
    let next = batch.read(source, |row| {
        let _: Pushed = encoder.push(row);
        encoder.waiting() < PIECE || pieces.blocking_send(encoder.take()).is_ok()
    })?;
    let (rest, staged, rejects, counts) = encoder.finish();
    Ok(Read { rest, staged, rejects, counts, next })
}

async fn copy_in(
    conn: &mut PgConnection,
    table: &str,
    columns: &str,
    data: Bytes,
) -> sea_orm::sqlx::Result<()> {
    let mut copy = conn.copy_in_raw(&format!("copy {table} ({columns}) from stdin (format binary)")).await?;
    copy.send(data).await?;
    copy.finish().await.map(drop)
}
