//! The writing half of an import: what becomes of each row of a batch, decided and written in the
//! caller's transaction.

use contracts::catalog::v1::ProductsChanged;
use outbox::Meta;
use sea_orm::sqlx::PgConnection;

use super::batches::Batch;
use crate::{
    SERVICE,
    domain::{Decision, Outcome, ProductRow, RowError, Summary, classify},
    storage::{batch as table, imports::Import, ledger},
};

/// Changes in one event.
const EVENT_CHANGES: usize = 2_000;

/// Writes the products and the ledger of a batch, and says so to who listens; gives its counts. Everything is
/// looked up: the caller's transaction is the only one that imports. `version` is that of the transaction.
pub async fn write_batch(
    conn: &mut PgConnection,
    import: &Import,
    version: i64,
    batch: &Batch,
) -> anyhow::Result<Summary> {
    let (ids, codes) = keys(&batch.valid);
    let existing = table::matching(conn, &ids, &codes, import.id).await?;
    let sorted = Sorted::of(batch, classify(&batch.valid, &existing, import.into()));
    write(conn, import, version, batch, &sorted, &sorted.created).await?;
    Ok(sorted.summary)
}

/// The same, where the rows that are `apart` were created by this transaction already, those of the batches before
/// are committed, and other imports may be at work. None: a row would update a product, which is for who has the
/// catalog alone, since the change log keeps what the product was before.
pub async fn write_rest(
    conn: &mut PgConnection,
    import: &Import,
    version: i64,
    batch: &Batch,
    apart: &[bool],
) -> anyhow::Result<Option<Summary>> {
    let others = || batch.valid.iter().zip(apart).filter(|(_, apart)| !**apart).map(|(row, _)| row);
    let (ids, codes) = keys(others());
    let existing = table::matching(conn, &ids, &codes, import.id).await?;
    let mut decisions = classify(others(), &existing, import.into()).into_iter();
    let decide = |apart: &bool| if *apart { Some(Decision::CREATE) } else { decisions.next() };
    let decisions: Vec<Decision> = apart.iter().map_while(decide).collect();
    let late: Vec<&ProductRow> = batch
        .valid
        .iter()
        .zip(apart.iter().zip(&decisions))
        .filter(|(_, (apart, decision))| !**apart && decision.outcome == Outcome::Create)
        .map(|(row, _)| row)
        .collect();
    let sorted = Sorted::of(batch, decisions);
    if !sorted.updated.is_empty() {
        return Ok(None);
    }
    write(conn, import, version, batch, &sorted, &late).await?;
    Ok(Some(sorted.summary))
}

/// Writes what was decided. `created`: the new products that are still to be inserted.
async fn write(
    conn: &mut PgConnection,
    import: &Import,
    version: i64,
    batch: &Batch,
    sorted: &Sorted<'_>,
    created: &[&ProductRow],
) -> anyhow::Result<()> {
    let proveedor_id = &import.source.proveedor_id;
    let updates = sorted.updates();
    // Updates first: they may free codes that new products take.
    table::update(conn, import.id, &updates, proveedor_id, version).await?;
    table::insert(conn, Some(import.id), created, proveedor_id, version).await?;
    ledger::record_creations(conn, import.id, version, &sorted.created).await?;
    ledger::record_rejections(conn, import.id, batch.invalid.iter().chain(&sorted.rejected)).await?;

    let created = sorted.created.iter().map(|row| (row.id.as_str(), Change::Created));
    let updated = updates.iter().map(|(id, _)| (*id, Change::Updated));
    publish_changes(conn, proveedor_id, &import.id.to_string(), version, created.chain(updated)).await
}

/// The ids and codes of rows.
pub fn keys<'a>(rows: impl IntoIterator<Item = &'a ProductRow>) -> (Vec<&'a str>, Vec<&'a str>) {
    rows.into_iter().map(|row| (row.id.as_str(), row.codigo.as_str())).unzip()
}

/// The valid rows of a batch by what becomes of them.
pub struct Sorted<'a> {
    pub summary: Summary,
    pub created: Vec<&'a ProductRow>,
    pub updated: Vec<(String, &'a ProductRow)>,
    pub rejected: Vec<RowError>,
}

impl<'a> Sorted<'a> {
    pub fn of(batch: &'a Batch, decisions: Vec<Decision>) -> Self {
        let mut sorted = Self {
            summary: Summary::default(),
            created: Vec::with_capacity(batch.valid.len()),
            updated: Vec::new(),
            rejected: Vec::new(),
        };
        batch.invalid.iter().for_each(|_| sorted.summary.count_invalid());
        for (row, decision) in batch.valid.iter().zip(decisions) {
            sorted.summary.count(&decision);
            match decision.outcome {
                Outcome::Create => sorted.created.push(row),
                Outcome::Update { id } => sorted.updated.push((id, row)),
                Outcome::Reject(error) => sorted.rejected.push(error),
            }
        }
        sorted
    }

    /// The updates, each with the product that it means.
    pub fn updates(&self) -> Vec<(&str, &'a ProductRow)> {
        self.updated.iter().map(|(id, row)| (id.as_str(), *row)).collect()
    }
}

/// What was done to products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Created,
    Updated,
    Deleted,
}

/// Says which products changed, in the caller's transaction, whose version theirs is now.
pub async fn publish_changes<'a>(
    conn: &mut PgConnection,
    proveedor_id: &str,
    task_id: &str,
    version: i64,
    changes: impl Iterator<Item = (&'a str, Change)>,
) -> anyhow::Result<()> {
    let empty = ProductsChanged {
        proveedor_id: proveedor_id.to_owned(),
        version: u64::try_from(version)?,
        task_id: task_id.to_owned(),
        ..ProductsChanged::default()
    };
    let mut events: Vec<(ProductsChanged, Meta)> = Vec::new();
    for (count, (id, change)) in changes.enumerate() {
        if count % EVENT_CHANGES == 0 {
            events.push((empty.clone(), Meta::about(proveedor_id)));
        }
        if let Some((event, _)) = events.last_mut() {
            let ids = match change {
                Change::Created => &mut event.created,
                Change::Updated => &mut event.updated,
                Change::Deleted => &mut event.deleted,
            };
            ids.push(id.to_owned());
        }
    }
    outbox::publish_all(conn, SERVICE, events).await?;
    Ok(())
}
