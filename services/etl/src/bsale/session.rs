//! What the walks of a run share: where it is, what it has counted, and the transactions in which it goes on.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use anyhow::anyhow;
use chrono::{DateTime, NaiveDate, Utc};
use jobs::{JobRun, Position, Progress};
use messaging::JobError;
use sea_orm::sqlx::PgPool;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use super::{
    Bsale, Priority,
    read::Understood,
    record::{Bad, Record, id_of},
};
use crate::{
    domain::run::{Counters, RunParams},
    metrics::ROWS,
    target::{self, Claim, Page, Quarantined},
};

/// Where a run is. It commits with the rows that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cursor {
    /// The part of the walk.
    pub phase: u32,
    /// Pages that were committed, over all attempts.
    pub step: i64,
    /// The slice of a scan.
    pub slice: usize,
    /// How often the slice was begun.
    pub pass: u32,
    pub offset: u64,
    /// What the source said at the slice's beginning, of how many there are.
    pub count: Option<u64>,
    /// Keys that the run had met when the pass began.
    pub met_before: u64,
    /// Whether a scan has met a record whose key can't be read: which of our rows it is, nobody knows.
    pub keyless: bool,
    /// The day that is next, of a walk by days.
    pub day: Option<NaiveDate>,
    /// The last day of the run, by the source's clock when it began.
    pub last_day: Option<NaiveDate>,
    /// The last key that is done with, of a walk by keys.
    pub after: i64,
    /// Days whose totals differ from the source's even after they were read again.
    pub differing: Vec<NaiveDate>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub began: DateTime<Utc>,
    pub counters: Counters,
    pub place: Cursor,
}

/// A run that has its stream.
pub struct Session<'a> {
    pub bsale: &'a Bsale,
    pub run: &'a JobRun,
    pub params: RunParams,
    pub priority: Priority,
    pub claim: Claim,
    pub place: Cursor,
    pub counters: Counters,
    /// When the run began, by our clock, whatever workers it had since.
    pub began: DateTime<Utc>,
    /// The keys that this pass over a slice has met, hashed: fewer than the source counts means that something was
    /// missed. None: an earlier worker began the pass.
    pub seen: Option<HashSet<u64>>,
    /// Where the stream was before.
    pub watermark: Option<DateTime<Utc>>,
    pub(super) pool: PgPool,
}

impl Session<'_> {
    /// Commits a page and where the run is now, and copies both to the job's row.
    ///
    /// # Errors
    /// What the walk must return at once.
    pub async fn commit(&mut self, page: Page, read: u64) -> Result<(), JobError> {
        self.commit_with(page, read, None).await
    }

    /// The same, with a new watermark.
    ///
    /// # Errors
    /// As [`Session::commit`].
    pub async fn commit_with(
        &mut self,
        page: Page,
        read: u64,
        watermark: Option<DateTime<Utc>>,
    ) -> Result<(), JobError> {
        self.place.step += 1;
        let mut counters = self.counters.clone();
        counters.leidos += read;
        counters.en_cuarentena += page.bad.len() as u64;
        let began = self.began;
        let place = &self.place;
        let sum = |merged: &target::Merged, deleted: u64| {
            let mut sum = counters.clone();
            sum.insertados += merged.inserted;
            sum.actualizados += merged.updated;
            sum.sin_cambios += merged.same;
            sum.mas_antiguos += merged.older;
            sum.eliminados += deleted;
            sum
        };
        let (merged, deleted) = self
            .claim
            .commit(
                &page,
                watermark,
                |merged, deleted| json!({ "began": began, "counters": sum(merged, deleted), "place": place }),
            )
            .await?;
        self.counters = sum(&merged, deleted);
        self.watermark = watermark.or(self.watermark);
        let stream = self.params.stream.as_str();
        for (outcome, number) in [
            ("inserted", merged.inserted),
            ("updated", merged.updated),
            ("same", merged.same),
            ("deleted", deleted),
            ("quarantined", page.bad.len() as u64),
        ] {
            ROWS.with_label_values(&[stream, outcome]).inc_by(number);
        }
        self.copy().await?;
        self.run.proceed()
    }

    /// The job's row says what the target's says.
    async fn copy(&self) -> Result<(), JobError> {
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (read, bad) = (count(self.counters.leidos), count(self.counters.en_cuarentena));
        let progress = Progress { total: None, processed: read, successful: read - bad, failed: bad };
        let checkpoint = json!({ "contadores": self.counters, "lugar": self.place, "marca": self.watermark });
        let position = Position::new(self.place.phase, self.place.step);
        self.run.checkpoint(&mut conn, &checkpoint, position, &progress).await.map(drop)
    }

    /// Notes a key that this pass over a slice has met.
    pub fn saw(&mut self, key: &str) {
        if let Some(seen) = &mut self.seen {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            seen.insert(hasher.finish());
        }
    }

    /// Counts what a record was found to be.
    pub fn note(&mut self, understood: &Understood) {
        if let Some(reason) = understood.skipped {
            count(&mut self.counters.omitidos, reason);
        }
        for field in &understood.new_fields {
            count(&mut self.counters.campos_nuevos, field);
        }
    }

    /// Reads records one by one. What is bad of itself goes to quarantine; what says that the source has changed stops
    /// the stream.
    ///
    /// # Errors
    /// Drift, with the name of what drifted.
    pub fn understand<T>(
        &self,
        what: &'static str,
        items: &[Box<RawValue>],
        parse: impl Fn(Record<'_>) -> Result<T, Bad>,
    ) -> Result<(Vec<T>, Vec<Quarantined>), JobError> {
        let (mut good, mut bad) = (Vec::with_capacity(items.len()), Vec::new());
        for raw in items {
            match Record::read(what, raw).and_then(&parse) {
                Ok(record) => good.push(record),
                Err(Bad::Drift(what)) => return Err(self.drift(&what)),
                Err(Bad::Record(rule)) => bad.push(Quarantined {
                    stream: self.params.stream.clone(),
                    clave: id_of(raw).map(|id| id.to_string()).unwrap_or_default(),
                    regla: rule,
                    registro: raw.get().to_owned(),
                }),
            }
        }
        Ok((good, bad))
    }

    /// The stream stops, with the name of what is missing or of another type.
    pub fn drift(&self, what: &str) -> JobError {
        JobError::fail(anyhow!("{}: the source has changed: {what}", self.params.stream))
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    // The names come from outside: not so many that the row grows without bound.
    if counts.len() < 100 || counts.contains_key(name) {
        *counts.entry(name.to_owned()).or_default() += 1;
    }
}
