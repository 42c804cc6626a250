//! The writing half of an import: what becomes of each row of a batch, decided and written in the
//! caller's transaction.

use std::collections::{HashMap, HashSet};

use sea_orm::sqlx::{self, PgConnection};

use super::batches::Batch;
use crate::{
    changes::{Change, publish_changes},
    domain::{
        Accepted, Claims, Decision, ExistingProduct, ImportContext, Key, Outcome, ProductRow, RowError,
        Summary, classify,
    },
    storage::{
        batch::{self as table, Met, Update},
        edits,
        imports::Import,
        ledger,
    },
};

/// How often products may change between a look at them and their being written.
const LOOKS: usize = 5;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Written {
    pub summary: Summary,
    /// The ids and codes that no later row of the file may have.
    pub accepted: Accepted,
}

/// What becomes of the rows of a batch, and of what they met.
pub struct Decided {
    met: Met,
    decisions: Vec<Decision>,
    /// The ids and codes that no later row of the file may have.
    pub accepted: Accepted,
}

impl Decided {
    fn of(import: ImportContext<'_>, batch: &Batch, met: Met, claims: &Claims) -> Self {
        let decisions = classify(&batch.valid, &met.products, claims, import);
        let accepted = Accepted::of(&batch.valid, &decisions);
        Self { met, decisions, accepted }
    }

    /// What the rows met, to be decided over again.
    pub fn undone(self) -> Met {
        self.met
    }
}

/// Decides over a batch that was looked up while the one before was still to be written, of which `claims` knows. Where rows
/// have to be looked up again once that one is there, what they met is given back.
pub fn decide_ahead(
    import: ImportContext<'_>,
    batch: &Batch,
    met: Met,
    claims: &Claims,
) -> Result<Decided, Met> {
    match stale(batch, &met, claims).is_empty() {
        true => Ok(Decided::of(import, batch, met, claims)),
        false => Err(met),
    }
}

/// Writes a batch that is decided already, as [`write_batch`] does. None: somebody was quicker, and the transaction is to be
/// rolled back.
pub async fn write_decided(
    conn: &mut PgConnection,
    import: &Import,
    batch: &Batch,
    decided: Decided,
) -> anyhow::Result<Option<Written>> {
    match attempt(conn, import, batch, decided).await? {
        Attempt::Written(written) => Ok(Some(written)),
        Attempt::Changed | Attempt::Overtaken => Ok(None),
    }
}

/// Writes the products and the ledger of a batch, and says so to who listens; gives its counts. The caller's
/// transaction is the only one that imports. `met`: what its rows met, if that was looked up: what earlier batches have
/// written since and what people have is looked up again. None: somebody was quicker, and the transaction is to be
/// rolled back.
pub async fn write_batch(
    conn: &mut PgConnection,
    import: &Import,
    batch: &Batch,
    met: Option<Met>,
    claims: &Claims,
) -> anyhow::Result<Option<Written>> {
    let rows: Vec<&ProductRow> = batch.valid.iter().collect();
    let mut met = match met {
        Some(met) => renewed(conn, import, batch, met, claims).await?,
        None => table::look_up(conn, import.id, &rows, &batch.absent).await?,
    };
    for _ in 0..LOOKS {
        let decided = Decided::of(import.into(), batch, met, claims);
        match attempt(conn, import, batch, decided).await? {
            Attempt::Written(written) => return Ok(Some(written)),
            Attempt::Changed => met = table::look_up(conn, import.id, &rows, &batch.absent).await?,
            Attempt::Overtaken => return Ok(None),
        }
    }
    Ok(None)
}

/// What came of writing what was decided.
enum Attempt {
    Written(Written),
    /// A product is not as it was looked up; nothing is written.
    Changed,
    /// A product was deleted while it was created; the transaction is to be rolled back.
    Overtaken,
}

async fn attempt(
    conn: &mut PgConnection,
    import: &Import,
    batch: &Batch,
    decided: Decided,
) -> anyhow::Result<Attempt> {
    let Decided { met, decisions, accepted } = decided;
    let sorted = Sorted::of(batch, decisions, &met.same);
    // Updates first: they may free codes that new products take.
    let version = if sorted.updated.is_empty() {
        table::next_version(conn).await?
    } else {
        match table::update(conn, import.id, &sorted.as_seen(&met.products), &batch.absent).await? {
            Some(version) => version,
            None => return Ok(Attempt::Changed),
        }
    };
    let proveedor_id = &import.source.proveedor_id;
    table::insert(conn, Some(import.id), &sorted.created, proveedor_id, version).await?;
    if edits::deleted_since(conn, version, &sorted.created).await? {
        return Ok(Attempt::Overtaken);
    }
    record(conn, import, version, batch, &sorted).await?;
    Ok(Attempt::Written(Written { summary: sorted.summary, accepted }))
}

/// The rows of a batch that have to be looked up again once the batches before it are written. A row that met the product of
/// its code may find that an earlier row of the file gave that product another code; all else that those wrote, they claim.
fn stale<'a>(batch: &'a Batch, met: &Met, claims: &Claims) -> Vec<&'a ProductRow> {
    let moved: HashSet<&str> = met
        .products
        .iter()
        .filter(|product| claims.has(Key::id(&product.id)))
        .map(|product| product.codigo.as_str())
        .collect();
    let is_stale = |row: &&ProductRow| {
        moved.contains(row.codigo.as_str())
            && !claims.has(Key::id(&row.id))
            && !claims.has(Key::code(&row.codigo))
    };
    batch.valid.iter().filter(is_stale).collect()
}

/// What a batch met, once the batches before it are written.
async fn renewed(
    conn: &mut PgConnection,
    import: &Import,
    batch: &Batch,
    mut met: Met,
    claims: &Claims,
) -> sqlx::Result<Met> {
    let rows = stale(batch, &met, claims);
    if rows.is_empty() {
        return Ok(met);
    }
    let again = table::look_up(conn, import.id, &rows, &batch.absent).await?;
    let codes: HashSet<&str> = rows.iter().map(|row| row.codigo.as_str()).collect();
    let found: HashSet<&str> = again.products.iter().map(|product| product.id.as_str()).collect();
    met.products.retain(|product| {
        let moved = codes.contains(product.codigo.as_str()) && claims.has(Key::id(&product.id));
        !moved && !found.contains(product.id.as_str())
    });
    met.products.extend(again.products);
    for row in rows {
        met.same.remove(&row.row);
    }
    met.same.extend(again.same);
    Ok(met)
}

/// The same, where the rows that are `apart` were created by this transaction already, those of the batches before
/// are committed, and other imports may be at work. None: a row meets a product that is for who has the catalog alone,
/// or somebody was quicker; the transaction is to be rolled back.
pub async fn write_rest(
    conn: &mut PgConnection,
    import: &Import,
    version: i64,
    batch: &Batch,
    apart: &[bool],
    claims: &Claims,
) -> anyhow::Result<Option<Written>> {
    let others: Vec<&ProductRow> =
        batch.valid.iter().zip(apart).filter(|(_, apart)| !**apart).map(|(row, _)| row).collect();
    let met = table::look_up(conn, import.id, &others, &batch.absent).await?;
    let mut decisions = classify(others.iter().copied(), &met.products, claims, import.into()).into_iter();
    let decide = |apart: &bool| if *apart { Some(Decision::CREATE) } else { decisions.next() };
    let decisions: Vec<Decision> = apart.iter().map_while(decide).collect();
    let late: Vec<&ProductRow> = batch
        .valid
        .iter()
        .zip(apart.iter().zip(&decisions))
        .filter(|(_, (apart, decision))| !**apart && decision.outcome == Outcome::Create)
        .map(|(row, _)| row)
        .collect();
    let accepted = Accepted::of(&batch.valid, &decisions);
    let sorted = Sorted::of(batch, decisions, &met.same);
    if sorted.summary.updated > 0 {
        return Ok(None);
    }
    table::insert(conn, Some(import.id), &late, &import.source.proveedor_id, version).await?;
    if edits::deleted_since(conn, version, &sorted.created).await? {
        return Ok(None);
    }
    record(conn, import, version, batch, &sorted).await?;
    Ok(Some(Written { summary: sorted.summary, accepted }))
}

/// Records what was done, but for updates, which are recorded as they are made.
async fn record(
    conn: &mut PgConnection,
    import: &Import,
    version: i64,
    batch: &Batch,
    sorted: &Sorted<'_>,
) -> anyhow::Result<()> {
    ledger::record_creations(conn, import.id, version, &sorted.created).await?;
    if let Some((first, _)) = sorted.unchanged.first() {
        let products: Vec<&str> = sorted.unchanged.iter().map(|(_, id)| id.as_str()).collect();
        ledger::record_unchanged(conn, import.id, version, *first, &products).await?;
    }
    ledger::record_rejections(conn, import.id, batch.invalid.iter().chain(&sorted.rejected)).await?;

    let created = sorted.created.iter().map(|row| (row.id.as_str(), Change::Created));
    let updated = sorted.updated.iter().map(|(id, _)| (id.as_str(), Change::Updated));
    let (supplier, task) = (&import.source.proveedor_id, import.id.to_string());
    publish_changes(conn, supplier, &task, version, created.chain(updated)).await
}

/// Whether somebody else has an id or a code, or writes them at this moment: a deadlock, or a wait for too long,
/// which may be a deadlock that the server can't see.
pub fn is_conflict(error: &sqlx::Error) -> bool {
    const DEADLOCK_DETECTED: &str = "40P01";
    table::is_lock_timeout(error)
        || error.as_database_error().is_some_and(|error| {
            error.is_unique_violation() || error.code().is_some_and(|code| code == DEADLOCK_DETECTED)
        })
}

/// The ids and codes of rows.
pub fn keys<'a>(rows: impl IntoIterator<Item = &'a ProductRow>) -> (Vec<&'a str>, Vec<&'a str>) {
    rows.into_iter().map(|row| (row.id.as_str(), row.codigo.as_str())).unzip()
}

/// The valid rows of a batch by what becomes of them.
pub struct Sorted<'a> {
    pub summary: Summary,
    pub created: Vec<&'a ProductRow>,
    /// Those that change their product, each with its id.
    pub updated: Vec<(String, &'a ProductRow)>,
    /// Rows whose product is as they say already, each with its id.
    pub unchanged: Vec<(u32, String)>,
    pub rejected: Vec<RowError>,
}

impl<'a> Sorted<'a> {
    /// `same`: the rows whose product is as they say already.
    pub fn of(batch: &'a Batch, decisions: Vec<Decision>, same: &HashSet<u32>) -> Self {
        let mut sorted = Self {
            summary: Summary::default(),
            created: Vec::with_capacity(batch.valid.len()),
            updated: Vec::new(),
            unchanged: Vec::new(),
            rejected: Vec::new(),
        };
        batch.invalid.iter().for_each(|_| sorted.summary.count_invalid());
        for (row, decision) in batch.valid.iter().zip(decisions) {
            sorted.summary.count(&decision);
            match decision.outcome {
                Outcome::Create => sorted.created.push(row),
                Outcome::Update { id } if same.contains(&row.row) => {
                    sorted.summary.unchanged += 1;
                    sorted.unchanged.push((row.row, id));
                }
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

    /// The same with the versions in which the products were seen.
    fn as_seen(&self, seen: &[ExistingProduct]) -> Vec<Update<'_>> {
        let versions: HashMap<&str, i64> =
            seen.iter().map(|product| (product.id.as_str(), product.version)).collect();
        let version = |id: &str| versions.get(id).copied().unwrap_or_default();
        self.updated.iter().map(|(id, row)| Update { target: id, version: version(id), row }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::classify_tests::row;

    fn batch(valid: Vec<ProductRow>) -> Batch {
        Batch {
            last_row: valid.last().map_or(0, |row| row.row),
            valid,
            invalid: Vec::new(),
            warnings: Vec::new(),
            absent: Vec::new(),
            ignored_columns: Vec::new(),
            omitted_sheets: Vec::new(),
            corrected: 0,
            total_hint: None,
        }
    }

    /// A product of the import's supplier, as it was before the first batch.
    fn met(id: &str, codigo: &str) -> Met {
        let (id, codigo, proveedor_id) = (id.to_owned(), codigo.to_owned(), "mine".to_owned());
        let product = ExistingProduct { id, codigo, proveedor_id, version: 1, from_this_file: false };
        Met { products: vec![product], same: HashSet::new() }
    }

    #[test]
    fn a_batch_is_decided_ahead_as_it_would_be_after_the_one_before() {
        let import = ImportContext { proveedor_id: "mine", replace: true };
        let mut claims = Claims::nothing(100);
        // It gives the product p, which had A, the code B.
        let first = batch(vec![row(2, "p", "B")]);
        let decided = decide_ahead(import, &first, met("p", "A"), &claims).expect("nothing is before it");
        assert!(matches!(&decided.decisions[0].outcome, Outcome::Update { id } if id == "p"));
        claims.take(decided.accepted);

        let outcome = |row: ProductRow, met: Met| {
            let decided = decide_ahead(import, &batch(vec![row]), met, &claims).ok();
            decided.map(|decided| decided.decisions[0].outcome.clone())
        };
        let refused = |outcome: Option<Outcome>| match outcome {
            Some(Outcome::Reject(error)) => error.code,
            _ => "",
        };
        assert_eq!(refused(outcome(row(3, "p", "C"), met("p", "A"))), "duplicate_in_file", "its id");
        assert_eq!(refused(outcome(row(3, "q", "B"), met("p", "A"))), "duplicate_in_file", "its new code");
        assert_eq!(outcome(row(3, "q", "C"), Met::default()), Some(Outcome::Create));
        // The code that it gave up is free by then, or somebody else's.
        assert_eq!(outcome(row(3, "q", "A"), met("p", "A")), None, "to be looked up again");

        // The batch before was not written after all.
        claims.give_back();
        let again = decide_ahead(import, &batch(vec![row(3, "q", "A")]), met("p", "A"), &claims);
        let again = again.expect("nothing is before it");
        assert!(matches!(&again.decisions[0].outcome, Outcome::Update { id } if id == "p"));
    }
}
