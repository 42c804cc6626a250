//! What an import would come to, with nothing written.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use futures::future::try_join_all;
use messaging::JobError;
use rusqlite::Connection;
use sea_orm::sqlx::PgPool;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    encode::{Common, Encoder, Pushed},
    phone_set::{PARTS, PhoneSet},
    source::{Batches, Source},
};
use crate::{
    domain::{numbering_plan::NumberingPlan, phone::Phone},
    storage::contacts,
};

/// Phones that one query looks up.
const LOOKUP: usize = 10_000;

/// What would become of the rows: `rows = created + known + merged + rejected`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forecast {
    pub dry_run: bool,
    pub rows: i64,
    /// Phones that no contact has.
    pub created: i64,
    /// Phones that a contact has already.
    pub known: i64,
    pub merged: i64,
    pub rejected: i64,
    pub rejected_by_reason: BTreeMap<&'static str, i64>,
    pub repaired: u64,
}

/// What one reader counts. The phones of rows that may collide go to the disk; all else is thrown away as it is read.
#[derive(Default)]
struct Tally {
    rows: i64,
    loaded: i64,
    staged: i64,
    rejected: BTreeMap<&'static str, i64>,
    repaired: u64,
}

/// Reads the source and counts, with a file of four bytes a row that may collide in `dir`.
///
/// # Errors
/// [`JobError::Fail`] for a source that can't be read, [`JobError::Release`] where it was told to stop.
pub async fn run(
    pool: &PgPool,
    source: &Arc<Source>,
    common: &Arc<Common>,
    plan: &Arc<NumberingPlan>,
    (batch, workers): (i64, usize),
    dir: &Path,
    stop: &CancellationToken,
) -> Result<Forecast, JobError> {
    let phones = Arc::new(PhoneSet::new(dir));
    let batches = Arc::new(Mutex::new(Batches::new(source, batch, &[]).map_err(JobError::Fail)?));
    let readers = (0..source.readers(workers)).map(|_| {
        let (source, common, plan) = (Arc::clone(source), Arc::clone(common), Arc::clone(plan));
        let (batches, phones, stop) = (Arc::clone(&batches), Arc::clone(&phones), stop.clone());
        tokio::task::spawn_blocking(move || tally(&source, &common, &plan, &batches, &phones, &stop))
    });
    let tallies = try_join_all(readers).await.map_err(JobError::retry)?;
    let mut sum = Tally::default();
    for tally in tallies {
        sum.add(tally.map_err(JobError::Fail)?);
    }
    if stop.is_cancelled() {
        return Err(JobError::Release);
    }
    let (mut distinct, mut clean, mut known) = (0, 0, 0);
    for part in 0..PARTS {
        if stop.is_cancelled() {
            return Err(JobError::Release);
        }
        let phones = Arc::clone(&phones);
        let taken = tokio::task::spawn_blocking(move || phones.take(part));
        let mut part = taken.await.map_err(JobError::retry)?.map_err(JobError::retry)?;
        loop {
            let some = part.next(LOOKUP);
            if some.is_empty() {
                break;
            }
            distinct += count(some.len());
            if !common.stage_all {
                clean += count(twins(source, &some).map_err(JobError::Fail)?);
            }
            let some = some.iter().map(Phone::to_string).collect();
            known += contacts::count_by_phones(pool, some).await.map_err(JobError::retry)?;
        }
    }
    let rejected = sum.rejected.values().sum();
    let contacts = sum.loaded + distinct - clean;
    Ok(Forecast {
        dry_run: true,
        rows: sum.rows,
        created: contacts - known,
        known,
        merged: sum.staged - distinct + clean,
        rejected,
        rejected_by_reason: sum.rejected,
        repaired: sum.repaired,
    })
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.loaded += other.loaded;
        self.staged += other.staged;
        for (reason, rows) in other.rejected {
            *self.rejected.entry(reason).or_default() += rows;
        }
        self.repaired += other.repaired;
    }
}

fn tally(
    source: &Source,
    common: &Common,
    plan: &NumberingPlan,
    batches: &Mutex<Batches>,
    phones: &PhoneSet,
    stop: &CancellationToken,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    while !stop.is_cancelled() {
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).next_batch()?;
        let Some(batch) = next else { break };
        let mut encoder = Encoder::new(common, plan);
        let mut staged = Vec::new();
        let end = batch.read(source, |row| {
            match encoder.push(row) {
                Pushed::Loaded => tally.loaded += 1,
                Pushed::Staged(phone) => staged.push(phone),
                Pushed::Rejected(reason) => *tally.rejected.entry(reason.code()).or_default() += 1,
            }
            encoder.forget();
            true
        })?;
        batches.lock().unwrap_or_else(PoisonError::into_inner).ended(end);
        phones.add(&staged).context("keeping the phones of a file")?;
        tally.staged += count(staged.len());
        tally.rows += encoder.counts.rows;
        tally.repaired += encoder.counts.repaired;
    }
    Ok(tally)
}

/// How many of the phones are also there as a row that was loaded as it is.
fn twins(source: &Source, phones: &[Phone]) -> anyhow::Result<usize> {
    let Source::Sqlite(sqlite) = source else { return Ok(0) };
    let conn: Connection = sqlite.connect()?;
    let last = sqlite.bounds.map_or(0, |(_, last)| last);
    let mut statement =
        conn.prepare("select 1 from numeros where numero = ?1 and typeof(numero) = 'text' and id <= ?2")?;
    let mut found = 0;
    for phone in phones {
        let national = phone.national();
        let national = std::str::from_utf8(&national).context("digits")?;
        found += usize::from(statement.exists((national, last))?);
    }
    Ok(found)
}
