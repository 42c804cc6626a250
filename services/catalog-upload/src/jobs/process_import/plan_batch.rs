//! What would become of each row of a batch, noted in the caller's transaction; no product changes.

use std::collections::HashSet;

use sea_orm::sqlx::PgConnection;

use super::{
    batches::Batch,
    write_batch::{Sorted, Written, keys},
};
use crate::{
    domain::{Accepted, Claims, classify},
    storage::{imports::Import, ledger, plan},
};

/// Notes the plan and the refused rows of a batch; gives its counts.
pub async fn plan_batch(
    conn: &mut PgConnection,
    import: &Import,
    batch: &Batch,
    claims: &Claims,
) -> anyhow::Result<Written> {
    let (ids, codes) = keys(&batch.valid);
    let proveedor_id = &import.source.proveedor_id;
    let existing = plan::matching(conn, &ids, &codes, import.id, proveedor_id).await?;
    let decisions = classify(&batch.valid, &existing, claims, import.into());
    let accepted = Accepted::of(&batch.valid, &decisions);
    // Which of them change nothing, the plan tells.
    let mut sorted = Sorted::of(batch, decisions, &HashSet::new());
    sorted.summary.unchanged =
        plan::record_updates(conn, import.id, &sorted.updates(), &batch.absent).await?;
    plan::record_creations(conn, import.id, &sorted.created).await?;
    ledger::record_rejections(conn, import.id, batch.invalid.iter().chain(&sorted.rejected)).await?;
    Ok(Written { summary: sorted.summary, accepted })
}
