//! One run of a stream of BigQuery's.
//!
//! Each slice is a query under an id of ours, made from the run's id, so that a worker which takes over reads on in the
//! snapshot that the dead one began: the checkpoint names the query and its next page. Rows, counters, watermark and
//! checkpoint commit in one transaction, the job's own lease decides whether it may.

use anyhow::anyhow;
use chassis::db::{orm, orm_unavailable};
use chrono::{DateTime, Duration, NaiveDate, TimeDelta, Utc};
use failpoints::Point;
use jobs::{JobRun, Outcome, Position, Progress};
use messaging::JobError;
use sea_orm::sqlx::{self, PgConnection, PgPool};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::{
    beaten,
    bigquery::{BigQueryError, BigQuerySettings, Client, Page},
    days,
    numbers::lima_midnight,
    question::today,
    raw::{self, Fuse, Gone},
    rows::{self, Datum, Read},
    streams::{RawTable, Slice, table_of},
};
use crate::{
    bucket::Priority,
    domain::run::{Counters, Mode, RunParams},
    metrics::ROWS,
    storage::raw_streams,
};

/// The longest slice of daily and full runs. Backfills go by days.
const SLICE_DAYS: i64 = 31;
/// How often a slice is begun whose results expire before they are read.
const BEGINNINGS: u32 = 5;

impl From<BigQueryError> for JobError {
    fn from(error: BigQueryError) -> Self {
        match error {
            BigQueryError::Unavailable(_)
            | BigQueryError::RateLimited(_)
            | BigQueryError::QuotaExceeded(_)
            | BigQueryError::JobFailed { .. }
            | BigQueryError::Incomplete { .. }
            | BigQueryError::Malformed(_) => Self::retry(error),
            BigQueryError::Unauthorized(_) | BigQueryError::NotFound(_) | BigQueryError::Refused { .. } => {
                Self::fail(error)
            }
        }
    }
}

/// Where a run is.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cursor {
    /// What the run is about: fixed when it begins.
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// Days before that have changed at the source since they were read, as runs of earlier versions have them: their first
    /// slices. Where a worker of such a version takes over, the slices have the same numbers.
    #[serde(default)]
    again: Vec<NaiveDate>,
    /// The same of this version: the last slices. What was moved to a later day has been met there by then, and is not gone.
    /// Then days of rows that were beaten by others which the run has found to be gone.
    #[serde(default)]
    last: Vec<NaiveDate>,
    slice: usize,
    /// How often the slice was begun: a part of its query's id.
    beginning: u32,
    /// When the slice's query was begun: its snapshot is not older.
    snapshot: Option<DateTime<Utc>>,
    /// The next page of its results; none: the first.
    page: Option<String>,
    /// What the queries so far read at BigQuery, as their dry runs said.
    #[serde(default)]
    bytes: u64,
    /// Where BigQuery runs the slice's query: results are asked for there.
    #[serde(default)]
    location: Option<String>,
    /// Rows of the slice so far.
    #[serde(default)]
    rows: u64,
    /// How many of them, over all beginnings, were not in the table as they are.
    #[serde(default)]
    written: u64,
    /// Whether the slice has a record whose key can't be read: which of our rows it is, nobody knows.
    #[serde(default)]
    keyless: bool,
    /// Pages, over all slices.
    step: i64,
    counters: Counters,
}

/// A page as the raw table has it; or how the source has changed.
type ReadPage = Page<Result<Read, String>>;

struct Session<'a> {
    client: &'a Client,
    pool: &'a PgPool,
    run: &'a JobRun,
    table: &'static RawTable,
    params: RunParams,
    slices: Vec<Slice>,
    place: Cursor,
    /// The page that comes after the one that is being written, under its token: BigQuery, PostgreSQL and the reading of
    /// rows work at once.
    ahead: Option<(String, AbortOnDropHandle<Result<ReadPage, BigQueryError>>)>,
}

/// Works on a run until its end.
///
/// # Errors
/// What the runner makes of it: a retry, a failure, or a release.
pub async fn work(
    client: &Client,
    pool: &PgPool,
    run: &JobRun,
    params: RunParams,
) -> Result<Outcome, JobError> {
    let priority = if params.mode == Mode::Backfill { Priority::Backfill } else { Priority::Daily };
    let client = &client.with_priority(priority);
    let table = table_of(&params.stream)
        .ok_or_else(|| JobError::fail(anyhow!("{} is not a stream of BigQuery", params.stream)))?;
    let known = run.job.checkpoint_as::<Cursor>();
    let place = match known.map_err(|error| JobError::fail(anyhow!("the checkpoint: {error}")))? {
        Some(place) => place,
        None => begin(client, pool, run, table, &params).await?,
    };
    let slices = plan(table, &params, &place);
    let mut session = Session { client, pool, run, table, params, slices, place, ahead: None };
    while let Some(slice) = session.slices.get(session.place.slice).copied() {
        session.read(slice).await?;
    }
    let watermark = raw_streams::watermark(&orm(pool), table.stream).await.map_err(JobError::retry)?;
    let again = [session.place.again, session.place.last].concat();
    Ok(Outcome::Done(json!({
        "contadores": session.place.counters, "marca": watermark, "bytes": session.place.bytes, "dias_releidos": again,
    })))
}

/// What a new run is about.
async fn begin(
    client: &Client,
    pool: &PgPool,
    run: &JobRun,
    table: &RawTable,
    params: &RunParams,
) -> Result<Cursor, JobError> {
    let settings: &BigQuerySettings = client.settings();
    let lag = TimeDelta::from_std(settings.lag).map_err(JobError::fail)?;
    let now = client.clock().await? - lag;
    let start = lima_midnight(settings.start);
    let (from, to) = match params.mode {
        Mode::Full => (start, now),
        Mode::Daily => {
            let watermark = raw_streams::watermark(&orm(pool), &params.stream).await;
            let watermark = watermark.map_err(JobError::retry)?;
            let again =
                watermark.map(|at| lima_midnight(today(at - Duration::days(settings.look_back.into()))));
            (again.unwrap_or(start).max(start), now)
        }
        Mode::Backfill => {
            let (first, last) = (settings.start, today(now));
            // Whatever was asked for: there is nothing outside, and calendars have an end.
            let midnight = |day: NaiveDate| lima_midnight(day.max(first).min(last + Duration::days(1)));
            let next = |day: NaiveDate| {
                lima_midnight(day.max(first - Duration::days(1)).min(last) + Duration::days(1))
            };
            (params.from.map_or(start, midnight), params.to.map_or(now, next).min(now))
        }
    };
    let (mut last, mut bytes) = (Vec::new(), 0);
    let check = looked_from(settings, to);
    // Where every run reads all of these days anyway, there is nothing to compare.
    if params.mode != Mode::Backfill && settings.check_days > settings.look_back {
        bytes = days::look(client, pool, table, run, (check, to)).await?;
        last = days::differing(pool, table, run.job.id, today(from)).await.map_err(JobError::retry)?;
    }
    let counters = Counters::default();
    Ok(Cursor {
        from,
        to,
        again: Vec::new(),
        last,
        slice: 0,
        beginning: 0,
        snapshot: None,
        page: None,
        bytes,
        location: None,
        rows: 0,
        written: 0,
        keyless: false,
        step: 0,
        counters,
    })
}

/// From which day on a run until `to` looks at days before it reads.
fn looked_from(settings: &BigQuerySettings, to: DateTime<Utc>) -> DateTime<Utc> {
    lima_midnight(today(to) - Duration::days(settings.check_days.into())).max(lima_midnight(settings.start))
}

/// The slices of a run, in the order in which they are read.
fn plan(table: &RawTable, params: &RunParams, place: &Cursor) -> Vec<Slice> {
    if table.cursor.is_none() {
        return vec![None];
    }
    let length = if params.mode == Mode::Backfill { 1 } else { SLICE_DAYS };
    let day = |day: NaiveDate| Some((lima_midnight(day), lima_midnight(day + Duration::days(1))));
    let mut slices: Vec<Slice> = place.again.iter().copied().map(day).collect();
    let mut from = place.from;
    while from < place.to {
        let to = lima_midnight(today(from) + Duration::days(length)).min(place.to);
        slices.push(Some((from, to)));
        from = to;
    }
    if params.mode == Mode::Backfill {
        slices.reverse();
    }
    // Who moves the watermark reads no further than it says.
    let end = if params.mode == Mode::Backfill { None } else { Some(place.to) };
    let last = place.last.iter().copied().filter_map(day);
    let last = last.map(|(from, to)| (from, end.map_or(to, |end| to.min(end))));
    slices.extend(last.filter(|(from, to)| from < to).map(Some));
    slices
}

impl Session<'_> {
    /// Reads a slice from where it is to its end.
    async fn read(&mut self, slice: Slice) -> Result<(), JobError> {
        let snapshot = match self.place.snapshot {
            Some(snapshot) => snapshot,
            None => {
                let (sql, parameters) = self.table.query(self.client.settings(), slice);
                self.place.bytes += self.client.bytes(&sql, &parameters).await?;
                // Noted before the query is begun: rows that are read otherwise meanwhile are newer than its snapshot.
                let snapshot = Utc::now();
                self.place.snapshot = Some(snapshot);
                self.note().await?;
                snapshot
            }
        };
        let id = format!("lote_{}_{}_{}", self.run.job.id.simple(), self.place.slice, self.place.beginning);
        if self.place.page.is_none() {
            let (sql, parameters) = self.table.query(self.client.settings(), slice);
            self.place.location = self.client.insert(&id, &sql, &parameters).await?.location;
        }
        let ahead = self.ahead.take().filter(|(token, _)| self.place.page.as_ref() == Some(token));
        let Cursor { location, page, rows, .. } = &self.place;
        let table = self.table;
        let page = match ahead {
            Some((_, page)) => page.await.map_err(JobError::retry)?,
            None => fetch(self.client, &id, location.as_deref(), page.as_deref(), table, snapshot).await,
        };
        match page.and_then(|page| page.counted(*rows)) {
            Ok(page) => {
                self.ahead = page.next.clone().map(|token| {
                    let (client, of) = (self.client.clone(), token.clone());
                    let location = self.place.location.clone();
                    let page = tokio::spawn(async move {
                        fetch(&client, &id, location.as_deref(), Some(&of), table, snapshot).await
                    });
                    (token, AbortOnDropHandle::new(page))
                });
                self.take(slice, snapshot, page).await
            }
            Err(
                error @ (BigQueryError::NotFound(_)
                | BigQueryError::JobFailed { .. }
                | BigQueryError::Incomplete { .. }),
            ) => {
                // The results have expired, or there will be none, or they are not all: the slice again, under another
                // id. So it is too where the query is ours from before, and its place is not known.
                self.place.beginning += 1;
                self.place.snapshot = None;
                self.place.page = None;
                (self.place.location, self.place.rows, self.place.keyless) = (None, 0, false);
                if self.place.beginning.is_multiple_of(BEGINNINGS) {
                    self.note().await?;
                    return Err(JobError::retry(error));
                }
                tracing::info!(stream = self.table.stream, %error, "the slice is begun again");
                self.note().await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Commits a page.
    async fn take(&mut self, slice: Slice, snapshot: DateTime<Utc>, page: ReadPage) -> Result<(), JobError> {
        let read = page.number;
        let (rows, bad) = page.rows.map_err(|what| {
            JobError::fail(anyhow!("{}: the source has changed: {what}", self.table.stream))
        })?;
        let run = self.run.job.id;
        let mut next = self.place.clone();
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        raw::take_turn(&mut transaction, self.table).await.map_err(job_error)?;
        let merged = raw::merge(&mut transaction, self.table, run, rows).await.map_err(job_error)?;
        raw::quarantine(&mut transaction, self.table.stream, run, snapshot, &bad).await.map_err(job_error)?;
        // A record that can't be read is there all the same.
        let known: Vec<&[Datum]> = bad.iter().filter_map(|record| record.known.as_deref()).collect();
        next.keyless |= known.len() < bad.len();
        raw::meet(&mut transaction, self.table, run, &known).await.map_err(job_error)?;
        next.rows += read;
        next.written += merged.inserted + merged.updated;
        let counters = &mut next.counters;
        counters.leidos += read;
        counters.insertados += merged.inserted;
        counters.actualizados += merged.updated;
        counters.sin_cambios += merged.rest;
        counters.en_cuarentena += bad.len() as u64;
        for field in &page.fields {
            let name = field.name.to_lowercase();
            if self.table.kind(&name).is_none() && counters.campos_nuevos.len() < 100 {
                *counters.campos_nuevos.entry(name).or_default() += read;
            }
        }
        let mut gone = Gone::default();
        if page.next.is_none() {
            if next.counters.too_many_bad() {
                let Counters { leidos, en_cuarentena, .. } = next.counters;
                // What is bad is kept, for who looks into it; the slice is not whole.
                drop(transaction);
                let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
                raw::quarantine(&mut conn, self.table.stream, run, snapshot, &bad)
                    .await
                    .map_err(job_error)?;
                return Err(JobError::fail(anyhow!(
                    "{en_cuarentena} of {leidos} records are in quarantine: more than 1 %"
                )));
            }
            gone = self.end(&mut transaction, slice, snapshot, &next).await?;
            next.counters.eliminados += gone.rows;
            next.slice += 1;
            gone.days.retain(|day| !self.is_due(next.slice, *day));
            next.last.append(&mut gone.days);
            next.beginning = 0;
            next.snapshot = None;
            (next.location, next.rows, next.written, next.keyless) = (None, 0, 0, false);
        }
        next.page = page.next;
        next.step += 1;
        self.checkpoint(&mut transaction, &next).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        self.slices = plan(self.table, &self.params, &next);
        self.place = next;
        for (outcome, number) in [
            ("inserted", merged.inserted),
            ("updated", merged.updated),
            ("same", merged.rest),
            ("deleted", gone.rows),
            ("quarantined", bad.len() as u64),
        ] {
            ROWS.with_label_values(&[self.table.stream, outcome]).inc_by(number);
        }
        self.run.proceed()
    }

    /// Whether a day is read by one of the slices from this one on.
    fn is_due(&self, slice: usize, day: NaiveDate) -> bool {
        let midnight = lima_midnight(day);
        self.slices.iter().skip(slice).flatten().any(|(from, to)| *from <= midnight && midnight < *to)
    }

    /// A slice is whole: what it did not have is gone, unless a record without a key may be that; and the watermark is its
    /// end.
    async fn end(
        &self,
        conn: &mut PgConnection,
        slice: Slice,
        snapshot: DateTime<Utc>,
        place: &Cursor,
    ) -> Result<Gone, JobError> {
        let run = self.run.job.id;
        // A slice may have millions of rows: looking for those that are gone takes as long as it takes.
        sqlx::raw_sql("set local statement_timeout = 0; set local work_mem = '64MB'")
            .execute(&mut *conn)
            .await
            .map_err(job_error)?;
        let fuse = (!self.params.force).then(|| Fuse {
            percent: self.client.settings().fuse_percent,
            before: place.counters.eliminados,
            of_table: slice.is_some_and(|(from, to)| to - from <= Duration::days(1)),
        });
        let gone = if place.keyless {
            // Nor does it count as read: its days are compared as they were before, and read again one by one.
            tracing::warn!(
                stream = self.table.stream,
                ?slice,
                "a record without a key: no row is taken for gone"
            );
            Ok(Gone::default())
        } else {
            let looked = looked_from(self.client.settings(), place.to);
            let rows = slice.filter(|(from, _)| *from >= looked).map(|_| place.rows);
            days::read(conn, self.table, run, slice, rows).await.map_err(job_error)?;
            beaten::forget(conn, self.table, slice, snapshot).await.map_err(job_error)?;
            raw::sweep(conn, self.table, run, slice, snapshot, fuse).await.map_err(job_error)?
        };
        let gone = gone.map_err(|reason| JobError::fail(anyhow!("{}: {reason}", self.table.name)))?;
        // Should this run not come to them, the next one that looks at them does.
        days::forget(conn, self.table, &gone.days).await.map_err(job_error)?;
        if self.params.mode == Mode::Backfill && place.written + gone.rows > 0 {
            // A backfill compares no days. If the source becomes again what it was when this one was read last (a file was out
            // for a moment, to be loaded again), nothing else would tell that the table is another.
            let days: Vec<NaiveDate> = slice.iter().map(|(from, _)| today(*from)).collect();
            days::forget(conn, self.table, &days).await.map_err(job_error)?;
        }
        raw::forget_met(conn, run).await.map_err(job_error)?;
        if self.params.mode != Mode::Backfill {
            let watermark = slice.map_or(self.place.to, |(_, to)| to);
            let advanced = raw_streams::advance(conn, self.table.stream, watermark, snapshot, run);
            advanced.await.map_err(|error| {
                if orm_unavailable(&error) { JobError::retry(error) } else { JobError::fail(error) }
            })?;
        }
        Ok(gone)
    }

    /// Notes where the run is, without rows: the slice begins.
    async fn note(&mut self) -> Result<(), JobError> {
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        // What an earlier beginning has met says nothing of this one's snapshot.
        raw::forget_met(&mut transaction, self.run.job.id).await.map_err(job_error)?;
        let place = self.place.clone();
        self.checkpoint(&mut transaction, &place).await?;
        transaction.commit().await.map_err(JobError::retry)?;
        self.run.proceed()
    }

    async fn checkpoint(&self, conn: &mut PgConnection, place: &Cursor) -> Result<(), JobError> {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (read, bad) = (count(place.counters.leidos), count(place.counters.en_cuarentena));
        let progress = Progress { total: None, processed: read, successful: read - bad, failed: bad };
        let value = serde_json::to_value(place).map_err(JobError::fail)?;
        let slice = u32::try_from(place.slice).unwrap_or(u32::MAX);
        self.run.checkpoint(conn, &value, Position::new(slice, place.step), &progress).await.map(drop)
    }
}

/// Fetches a page and reads its rows.
async fn fetch(
    client: &Client,
    id: &str,
    location: Option<&str>,
    token: Option<&str>,
    table: &'static RawTable,
    snapshot: DateTime<Utc>,
) -> Result<ReadPage, BigQueryError> {
    client.page(id, location, token, |fields, rows| rows::read(table, fields, rows, snapshot)).await
}

fn job_error(error: sqlx::Error) -> JobError {
    if chassis::db::unavailable(&error) { JobError::retry(error) } else { JobError::fail(error) }
}
