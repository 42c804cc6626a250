//! What would become of each row of a batch, noted in the caller's transaction; no product changes.

use sea_orm::sqlx::PgConnection;

use super::{
    batches::Batch,
    write_batch::{Sorted, keys},
};
use crate::{
    domain::{Summary, classify},
    storage::{batch as table, imports::Import, ledger},
};

/// Notes the plan and the refused rows of a batch; gives its counts.
pub async fn plan_batch(conn: &mut PgConnection, import: &Import, batch: &Batch) -> anyhow::Result<Summary> {
    let (ids, codes) = keys(&batch.valid);
    let proveedor_id = &import.source.proveedor_id;
    let existing = table::matching_planned(conn, &ids, &codes, import.id, proveedor_id).await?;
    let sorted = Sorted::of(batch, classify(&batch.valid, &existing, import.into()));
    table::plan_updates(conn, import.id, &sorted.updates()).await?;
    table::plan_creations(conn, import.id, &sorted.created).await?;
    ledger::record_rejections(conn, import.id, batch.invalid.iter().chain(&sorted.rejected)).await?;
    Ok(sorted.summary)
}
