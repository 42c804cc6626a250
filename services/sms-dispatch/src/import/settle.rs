//! The last phase: who opted out stays out, the views tell the new counts, the sums are checked, and a report says what
//! became of the rows.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, anyhow};
use failpoints::Point;
use messaging::JobError;
use sea_orm::sqlx::PgPool;

use super::{quality::Report, sample, sample::Sample, source::Source};
use crate::{
    domain::{ladas, phone::Lada},
    storage::{
        batches, imports,
        imports::Import,
        lookups::{self, StatusOf},
        merge, quality, suppressions, views,
    },
};

/// LADAs of which the report tells.
const TOP: usize = 20;

/// Brings what follows from contacts up to date.
///
/// # Errors
/// The database.
pub async fn follow(pool: &PgPool, import: i32) -> anyhow::Result<()> {
    suppressions::apply(pool).await.context("marking who opted out")?;
    lookups::apply(pool, StatusOf::Import(import)).await.context("applying what providers said of phones")?;
    let mut transaction = pool.begin().await?;
    batches::relax(&mut transaction).await?;
    merge::clear(&mut transaction, import).await?;
    transaction.commit().await?;
    failpoints::hit(Point::StagedCleared);
    views::refresh(pool).await.context("counting again")?;
    failpoints::hit(Point::ViewsRefreshed);
    Ok(())
}

/// Checks by counts in the tables that every row has its outcome, and reports.
///
/// # Errors
/// To fail: rows that vanished, which will be missing at the next attempt as well. To retry: the database.
pub async fn report(pool: &PgPool, import: &Import, source: &Source) -> Result<Report, JobError> {
    let started = Instant::now();
    let number = import.number;
    let mut conn = pool.acquire().await.map_err(JobError::retry)?;
    let sums = batches::sums(&mut conn, number).await.map_err(JobError::retry)?;
    drop(conn);
    let groups = quality::groups(pool, number).await.map_err(JobError::retry)?;
    let rejects = quality::rejects(pool, number).await.map_err(JobError::retry)?;
    let (changes, merges) = quality::ledgers(pool, number).await.map_err(JobError::retry)?;
    let contacts: i64 = groups.iter().map(|group| group.contacts).sum();
    let told = (sums.created, sums.updated, sums.merged, sums.rejected);
    let held = (contacts, changes, merges, rejects.values().sum::<i64>());
    if told != held {
        return Err(JobError::fail(anyhow!(
            "the batches tell of (contacts, changes, merges, rejects) {told:?}, the tables hold {held:?}"
        )));
    }
    let outcomes = sums.created + sums.updated + sums.unchanged + sums.merged + sums.rejected;
    if outcomes != sums.rows {
        return Err(JobError::fail(anyhow!("{} rows were read, {outcomes} have an outcome", sums.rows)));
    }
    if let Some(rows) = source.rows()
        && sums.rows != rows
    {
        return Err(JobError::fail(anyhow!("the source has {rows} rows, {} were read", sums.rows)));
    }
    let sample = match source {
        // The seed is the import's: the same sample whenever it is drawn.
        Source::Sqlite(sqlite) => {
            let seed = number.unsigned_abs().into();
            sample::compare(pool, number, sqlite, seed).await.map_err(JobError::Retry)?
        }
        Source::Csv(_) => Sample::default(),
    };

    let mut by_state = BTreeMap::new();
    let mut by_lada = BTreeMap::new();
    for group in &groups {
        *by_state.entry(group.state_code.clone().unwrap_or_default()).or_insert(0) += group.contacts;
        *by_lada.entry(group.lada.clone()).or_insert(0) += group.contacts;
    }
    let mut top_ladas: Vec<(String, i64)> = by_lada.into_iter().collect();
    top_ladas.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let unknown = |lada: &str| Lada::parse(lada).and_then(ladas::of).is_none_or(|info| info.state.is_none());
    let missing_ladas = top_ladas.iter().filter(|(lada, _)| unknown(lada)).cloned().collect();
    top_ladas.truncate(TOP);

    let mut seconds = imports::timings(pool, import.id).await.map_err(JobError::retry)?;
    let to_loaded: f64 = ["load", "merge"].iter().filter_map(|step| seconds.get(*step)).sum();
    seconds.insert("report".to_owned(), started.elapsed().as_secs_f64());
    Ok(Report {
        source: import.source.clone(),
        rows: sums.rows,
        created: sums.created,
        updated: sums.updated,
        unchanged: sums.unchanged,
        merged: sums.merged,
        rejected: sums.rejected,
        repaired: sums.repaired,
        valid_percent: percent(groups.iter().map(|group| group.valid).sum(), contacts),
        e164_percent: percent(groups.iter().map(|group| group.e164).sum(), contacts),
        kept_percent: percent(sums.rows - sums.rejected, sums.rows),
        rejected_by_reason: rejects,
        by_state,
        top_ladas,
        missing_ladas,
        without_city: groups.iter().map(|group| group.without_city).sum(),
        sample,
        seconds,
        rows_per_second: if to_loaded > 0.0 { sums.rows as f64 / to_loaded } else { 0.0 },
    })
}

/// Of nothing, all.
fn percent(part: i64, whole: i64) -> f64 {
    if whole == 0 { 100.0 } else { 100.0 * part as f64 / whole as f64 }
}
