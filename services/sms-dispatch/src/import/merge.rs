//! The second phase: staged rows become contacts, phone by phone, batch after batch.

use failpoints::Point;
use messaging::JobError;
use sea_orm::sqlx::PgPool;
use serde_json::json;

use super::watch::{Phase, Watch};
use crate::{
    metrics,
    storage::{
        batches::{self, BatchPhase, Done},
        merge,
    },
};

/// Rows a transaction: short enough that readers of the same pages and the disk are free again soon.
const BATCH: i64 = 10_000;

/// Merges what is staged and not merged yet.
///
/// # Errors
/// What stops the work for now.
pub async fn run(pool: &PgPool, import: i32, consent: &str, watch: &Watch<'_>) -> Result<(), JobError> {
    let (mut batch, mut after) = batches::last_merge(pool, import).await.map_err(JobError::retry)?;
    merge::analyze(pool).await.map_err(JobError::retry)?;
    loop {
        let mut transaction = pool.begin().await.map_err(JobError::retry)?;
        batches::relax(&mut transaction).await.map_err(JobError::retry)?;
        let to = merge::next_phone(&mut transaction, import, &after, BATCH).await.map_err(JobError::retry)?;
        let Some(to) = to else { return Ok(()) };
        let merged =
            merge::merge(&mut transaction, import, &after, &to, consent).await.map_err(JobError::retry)?;
        batch += 1;
        let done = Done {
            phase: BatchPhase::Merge,
            batch,
            rows: merged.rows,
            created: merged.created,
            updated: merged.updated,
            unchanged: merged.unchanged,
            merged: merged.merged,
            position: Some(json!(to)),
            ..Done::default()
        };
        batches::record(&mut transaction, import, &done).await.map_err(JobError::retry)?;
        watch.step(&mut transaction, Phase::Merge, batch).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        metrics::count_rows(&done);
        failpoints::hit(Point::BatchCommitted);
        after = to;
        watch.proceed()?;
    }
}
