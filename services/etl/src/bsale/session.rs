//! What the walks of a run share: where it is, what it has counted, and the transactions in which it goes on.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDate, Utc};
use jobs::{JobRun, Position, Progress};
use messaging::JobError;
use sea_orm::sqlx::PgPool;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::{
    Bsale, Priority,
    batch::{Batch, drift, understand},
    documents::{DocumentPages, DocumentReader},
    record::{Bad, Record},
};
use crate::{
    domain::run::{Counters, Mode, RunParams},
    metrics::ROWS,
    target::{Claim, CommitError, Merged, Quarantined},
};

/// Where a run is. It commits with the rows that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cursor {
    /// The part of the walk.
    pub phase: u32,
    /// Commits, over all attempts.
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

/// How many rows are gathered before they are committed, and for how long: where a run would be begun again anyhow, a
/// transaction for each page of fifty records is most of what it costs.
const BATCH_ROWS: usize = 2_000;
const BATCH_AGE: Duration = Duration::from_secs(1);
/// How many are gathered while the commit before goes on. Reading waits for it only after that.
const MOST_ROWS: usize = 4 * BATCH_ROWS;
/// How often the job's row is told how far the run is. The sales database knows it with every commit.
const TELL: Duration = Duration::from_secs(1);

/// Batches that wait for their commit, and where the run is with them.
struct Gathered {
    batch: Batch,
    place: Cursor,
    since: Instant,
}

/// What a commit has come to.
struct Committed {
    place: Cursor,
    counters: Counters,
    watermark: Option<DateTime<Utc>>,
    merged: Merged,
    deleted: u64,
    quarantined: u64,
}

/// A run that has its stream.
pub struct Session<'a> {
    pub bsale: &'a Bsale,
    pub run: &'a JobRun,
    pub params: RunParams,
    pub priority: Priority,
    pub documents: DocumentReader,
    /// The documents of the day that is next: Bsale is asked for them while those of this day come.
    pub next_day: Option<(NaiveDate, DocumentPages)>,
    pub claim: Claim,
    /// Where the walk is. [`Session::add`] says that it is there.
    pub place: Cursor,
    /// Of what is committed.
    pub counters: Counters,
    /// When the run began, by our clock, whatever workers it had since.
    pub began: DateTime<Utc>,
    /// The keys that this pass over a slice has met, hashed: fewer than the source counts means that something was
    /// missed. None: an earlier worker began the pass.
    pub seen: Option<HashSet<u64>>,
    /// Clients that were looked for already: they are in the table, or will be with what was added, or Bsale has none.
    pub clients: HashSet<i64>,
    /// Where the stream is with what was added.
    pub watermark: Option<DateTime<Utc>>,
    /// Where it is with what is committed.
    marked: Option<DateTime<Utc>>,
    pool: PgPool,
    gathered: Option<Gathered>,
    /// The commit that goes on beside the reading. There is one at a time: they are in the order of the walk.
    under_way: Option<AbortOnDropHandle<Result<Committed, CommitError>>>,
    /// What the job's row has not been told yet, and when it was last told something.
    untold: Option<Cursor>,
    told: Option<Instant>,
}

impl<'a> Session<'a> {
    /// A session that goes on from where `state` says.
    pub(super) fn new(
        bsale: &'a Bsale,
        run: &'a JobRun,
        params: RunParams,
        claim: Claim,
        (state, watermark): (State, Option<DateTime<Utc>>),
        pool: PgPool,
    ) -> Self {
        let priority = if params.mode == Mode::Backfill { Priority::Backfill } else { Priority::Daily };
        let documents = DocumentReader::new(bsale.client.clone(), params.stream.clone(), priority);
        Self {
            bsale,
            run,
            params,
            priority,
            documents,
            next_day: None,
            claim,
            place: state.place,
            counters: state.counters,
            began: state.began,
            seen: None,
            clients: HashSet::new(),
            watermark,
            marked: watermark,
            pool,
            gathered: None,
            under_way: None,
            untold: None,
            told: None,
        }
    }

    /// Adds what is to be written, and where the run is with it. Both commit in one transaction, together with what was
    /// added shortly before and is added shortly after; the caller reads on meanwhile. An error may be of an earlier one.
    ///
    /// # Errors
    /// What the walk must return at once.
    pub async fn add(&mut self, batch: Batch) -> Result<(), JobError> {
        self.watermark = batch.watermark.or(self.watermark);
        let gathered = self.gathered.get_or_insert_with(|| Gathered {
            batch: Batch::default(),
            place: Cursor::default(),
            since: Instant::now(),
        });
        gathered.place.clone_from(&self.place);
        gathered.batch.page.join(batch.page);
        gathered.batch.counters.add(&batch.counters);
        gathered.batch.watermark = batch.watermark.or(gathered.batch.watermark);
        let rows = gathered.batch.page.size();
        let is_due = rows >= BATCH_ROWS || gathered.since.elapsed() >= BATCH_AGE;
        let goes_on = self.under_way.as_ref().is_some_and(|commit| !commit.is_finished());
        if rows >= MOST_ROWS || (is_due && !goes_on) {
            self.commit().await?;
        }
        self.run.proceed()
    }

    /// Waits until the tables have all rows that were added, for who asks them.
    ///
    /// # Errors
    /// As [`Session::add`].
    pub async fn flush(&mut self) -> Result<(), JobError> {
        if self.gathered.as_ref().is_some_and(|gathered| gathered.batch.page.size() > 0) {
            self.commit().await?;
        }
        self.settle().await
    }

    /// Commits what is left, and tells the job's row.
    ///
    /// # Errors
    /// As [`Session::add`].
    pub async fn finish(&mut self) -> Result<(), JobError> {
        self.commit().await?;
        self.settle().await?;
        self.tell().await
    }

    /// Begins to commit what was gathered, after the commit before.
    async fn commit(&mut self) -> Result<(), JobError> {
        let gathered = self.gathered.take();
        self.settle().await?;
        let Some(Gathered { batch: Batch { page, counters, watermark }, mut place, .. }) = gathered else {
            return Ok(());
        };
        self.place.step += 1;
        place.step = self.place.step;
        let quarantined = page.bad.len() as u64;
        let mut before = self.counters.clone();
        before.add(&counters);
        before.en_cuarentena += quarantined;
        let (claim, began) = (self.claim.clone(), self.began);
        let under_way = async move {
            let sum = |merged: &Merged, deleted: u64| {
                let mut sum = before.clone();
                sum.insertados += merged.inserted;
                sum.actualizados += merged.updated;
                sum.sin_cambios += merged.same;
                sum.mas_antiguos += merged.older;
                sum.eliminados += deleted;
                sum
            };
            let state = |merged: &Merged, deleted: u64| json!({ "began": began, "counters": sum(merged, deleted), "place": place });
            let (merged, deleted) = claim.commit(&page, watermark, state).await?;
            let counters = sum(&merged, deleted);
            Ok::<_, CommitError>(Committed { place, counters, watermark, merged, deleted, quarantined })
        };
        self.under_way = Some(AbortOnDropHandle::new(tokio::spawn(under_way.in_current_span())));
        Ok(())
    }

    /// Waits for the commit that is under way.
    async fn settle(&mut self) -> Result<(), JobError> {
        let Some(under_way) = self.under_way.take() else { return Ok(()) };
        let Committed { place, counters, watermark, merged, deleted, quarantined } =
            under_way.await.map_err(JobError::retry)??;
        self.counters = counters;
        self.marked = watermark.or(self.marked);
        let stream = self.params.stream.as_str();
        for (outcome, number) in [
            ("inserted", merged.inserted),
            ("updated", merged.updated),
            ("same", merged.same),
            ("deleted", deleted),
            ("quarantined", quarantined),
        ] {
            ROWS.with_label_values(&[stream, outcome]).inc_by(number);
        }
        self.untold = Some(place);
        // The first one at once: an attempt that gets on has all its attempts again.
        if self.told.is_none_or(|told| told.elapsed() >= TELL) { self.tell().await } else { Ok(()) }
    }

    /// The job's row says what the target's says.
    async fn tell(&mut self) -> Result<(), JobError> {
        let Some(place) = self.untold.take() else { return Ok(()) };
        self.told = Some(Instant::now());
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (read, bad) = (count(self.counters.leidos), count(self.counters.en_cuarentena));
        // Records that are asked for one by one are no part of what was read, but may be bad.
        let successful = (read - bad).max(0);
        let progress = Progress { total: None, processed: read, successful, failed: bad };
        let position = Position::new(place.phase, place.step);
        let checkpoint = json!({ "contadores": self.counters, "lugar": place, "marca": self.marked });
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

    /// As [`understand`], for the run's stream.
    ///
    /// # Errors
    /// Drift, with the name of what drifted.
    pub fn understand<T>(
        &self,
        what: &'static str,
        items: &[Box<RawValue>],
        version: i64,
        parse: impl Fn(Record<'_>) -> Result<T, Bad>,
    ) -> Result<(Vec<T>, Vec<Quarantined>), JobError> {
        understand(&self.params.stream, what, items, version, parse)
    }

    /// As [`drift`], of the run's stream.
    pub fn drift(&self, what: &str) -> JobError {
        drift(&self.params.stream, what)
    }
}
