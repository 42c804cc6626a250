//! The writing half of an import: what becomes of each row of a batch, decided and written in the
//! caller's transaction.

use sea_orm::sqlx::{self, PgConnection};

use super::batches::Batch;
use crate::{
    domain::{ImportContext, Outcome, ProductRow, RowError, Summary, classify},
    storage::{
        imports::{self, Action},
        products,
    },
};

/// Writes the products and the ledger of a batch; gives its counts.
pub async fn write_batch(
    conn: &mut PgConnection,
    import: ImportContext<'_>,
    batch: &Batch,
) -> sqlx::Result<Summary> {
    products::lock_for_import(conn).await?;
    let ids: Vec<&str> = batch.valid.iter().map(|row| row.id.as_str()).collect();
    let codes: Vec<&str> = batch.valid.iter().map(|row| row.codigo.as_str()).collect();
    let existing = products::matching(conn, &ids, &codes, import.import).await?;

    let mut summary = Summary::default();
    batch.invalid.iter().for_each(|_| summary.count_invalid());
    let mut created: Vec<&ProductRow> = Vec::with_capacity(batch.valid.len());
    let mut updated: Vec<(String, &ProductRow)> = Vec::new();
    let mut rejected: Vec<RowError> = Vec::new();
    for (row, decision) in batch.valid.iter().zip(classify(&batch.valid, &existing, import)) {
        summary.count(&decision);
        match decision.outcome {
            Outcome::Create => created.push(row),
            Outcome::Update { id } => updated.push((id, row)),
            Outcome::Reject(error) => rejected.push(error),
        }
    }

    // Updates first: they may free codes that new products take.
    let updates: Vec<(&str, &ProductRow)> = updated.iter().map(|(id, row)| (id.as_str(), *row)).collect();
    products::update(conn, &updates, import.proveedor_id).await?;
    products::insert(conn, created.iter().copied(), import.proveedor_id).await?;

    let changes = created
        .iter()
        .map(|row| (row.row, row.id.as_str(), Action::Created))
        .chain(updates.iter().map(|(id, row)| (row.row, *id, Action::Updated)));
    imports::record_changes(conn, import.import, changes).await?;
    imports::record_rejections(conn, import.import, batch.invalid.iter().chain(&rejected)).await?;
    Ok(summary)
}
