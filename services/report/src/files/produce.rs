//! A file from its snapshot, piece by piece: whatever its size, a few pieces are in memory.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use bytes::Bytes;
use chrono::NaiveDate;
use chrono_tz::Tz;
use futures::{Stream, TryStreamExt as _};
use sea_orm::sqlx::{self, PgPool};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    copied::{Lines, Row},
    encode::Unencodable,
    gzip::Wrapping,
    write::{DETAIL, Field, SUMMARY, Writer},
};
use crate::{domain::params::Params, storage::snapshot::Snapshot};

/// What is gathered before it is passed on.
const PIECE: usize = 256 << 10;

/// Pieces that wait for whoever stores them.
pub const WAITING: usize = 8;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The database can't be reached or broke off.
    #[error("the rows were not read: {0}")]
    Database(#[from] sqlx::Error),
    /// No attempt will mend that.
    #[error("Fila {row}: {error}")]
    Letter {
        /// From 1, the head not counted.
        row: i64,
        /// What the encoding lacks.
        error: Unencodable,
    },
    /// Nor that.
    #[error("La campaña {0} ya no existe")]
    NoCampaign(i64),
    /// The process drains, or somebody asked for the end.
    #[error("told to stop")]
    Stopped,
    /// Whoever stores the pieces has gone.
    #[error("nobody takes the file")]
    Abandoned,
    /// Not without a lack of memory.
    #[error("compressing: {0}")]
    Compress(#[from] std::io::Error),
}

/// A phone number as it is; what was loaded in the place of one is a text like others, which spreadsheets must not
/// take for a formula.
fn phone(text: &[u8]) -> Field<'_> {
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.iter().all(u8::is_ascii_digit) { Field::Plain(text) } else { Field::Text(text) }
}

/// What a file is to show.
#[derive(Clone, Debug)]
pub struct Subject {
    /// 0: the totals of all.
    pub campaign: i64,
    pub fecha: NaiveDate,
    pub zone: Tz,
    pub params: Params,
}

/// What is known of a file that was produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub rows: i64,
    /// What the campaign's count of changes was in the snapshot.
    pub changes: i64,
    /// How many rows the campaign was to have there: only of a file that shows all of its rows, and where anybody has said.
    pub expected: Option<i64>,
}

/// How far it is, for whoever watches.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    rows: Arc<AtomicI64>,
    /// 0 until it is known.
    total: Arc<AtomicI64>,
}

impl Counter {
    /// Rows written, and how many there will be.
    pub fn read(&self) -> (i64, Option<i64>) {
        let total = self.total.load(Ordering::Relaxed);
        (self.rows.load(Ordering::Relaxed), Some(total).filter(|total| *total > 0))
    }
}

/// Pieces of a file, or that there will be no more and it is not whole.
pub type Piece = Result<Bytes, String>;

/// Produces a file into `pieces`. Where it fails the last piece is an error, so that nobody takes a part for the
/// whole.
///
/// # Errors
/// As [`ProduceError`] says.
pub async fn produce(
    pool: PgPool,
    subject: Subject,
    pieces: mpsc::Sender<Piece>,
    counter: Counter,
    stop: CancellationToken,
) -> Result<Produced, ProduceError> {
    let line = Line { subject: &subject, pieces: &pieces, counter: &counter, stop: &stop };
    let produced = if subject.campaign == 0 { line.summary(&pool).await } else { line.detail(&pool).await };
    if let Err(error) = &produced {
        // Fails where the receiver has gone, who then knows already.
        pieces.send(Err(error.to_string())).await.ok();
    }
    produced
}

struct Line<'a> {
    subject: &'a Subject,
    pieces: &'a mpsc::Sender<Piece>,
    counter: &'a Counter,
    stop: &'a CancellationToken,
}

impl Line<'_> {
    async fn detail(&self, pool: &PgPool) -> Result<Produced, ProduceError> {
        let Subject { campaign, zone, params, .. } = self.subject;
        let mut snapshot = Snapshot::begin(pool, *zone).await?;
        let head = snapshot.head(*campaign).await?.ok_or(ProduceError::NoCampaign(*campaign))?;
        if params.states.is_empty() {
            self.counter.total.store(head.rows, Ordering::Relaxed);
        }
        let common = self.common(&head.nombre, head.fecha)?;
        let mut writer = Writer::new(params);
        writer.head(&DETAIL).map_err(|error| ProduceError::Letter { row: 0, error })?;
        let copied = snapshot.messages(*campaign, head.fecha, &params.states).await?;
        let rows = self
            .run(copied, writer, |writer, row| {
                writer.again(&common);
                writer.fields([
                    phone(row.column(0)),
                    Field::Text(row.column(1)),
                    Field::Plain(row.column(2)),
                    Field::Plain(row.column(3)),
                    Field::Text(row.column(4)),
                ])
            })
            .await?;
        snapshot.finish().await?;
        let expected = head.expected.filter(|_| params.states.is_empty());
        Ok(Produced { rows, changes: head.changes, expected })
    }

    /// The fields that all rows begin with, and the separator after them.
    fn common(&self, nombre: &str, fecha: NaiveDate) -> Result<Vec<u8>, ProduceError> {
        let mut writer = Writer::new(&self.subject.params);
        // Without the mark of its encoding.
        writer.out.clear();
        let (id, fecha) = (self.subject.campaign.to_string(), fecha.to_string());
        writer
            .fields([
                Field::Plain(id.as_bytes()),
                Field::Text(nombre.as_bytes()),
                Field::Plain(fecha.as_bytes()),
            ])
            .map_err(|error| ProduceError::Letter { row: 1, error })?;
        writer.separate();
        Ok(writer.out)
    }

    async fn summary(&self, pool: &PgPool) -> Result<Produced, ProduceError> {
        let Subject { fecha, zone, params, .. } = self.subject;
        let mut snapshot = Snapshot::begin(pool, *zone).await?;
        let (campaigns, changes) = snapshot.day(*fecha).await?;
        self.counter.total.store(campaigns, Ordering::Relaxed);
        let mut writer = Writer::new(params);
        writer.head(&SUMMARY).map_err(|error| ProduceError::Letter { row: 0, error })?;
        let copied = snapshot.totals(*fecha).await?;
        let day = fecha.to_string();
        let rows = self
            .run(copied, writer, |writer, row| {
                writer.fields([
                    Field::Plain(row.column(0)),
                    Field::Text(row.column(1)),
                    Field::Plain(day.as_bytes()),
                    Field::Text(row.column(2)),
                    Field::Plain(row.column(3)),
                    Field::Plain(row.column(4)),
                    Field::Plain(row.column(5)),
                    Field::Plain(row.column(6)),
                ])
            })
            .await?;
        snapshot.finish().await?;
        Ok(Produced { rows, changes, expected: None })
    }

    /// Writes each copied row as `record` says, and passes the pieces on.
    async fn run(
        &self,
        copied: impl Stream<Item = sqlx::Result<Bytes>>,
        mut writer: Writer,
        mut record: impl FnMut(&mut Writer, &Row) -> Result<(), Unencodable>,
    ) -> Result<i64, ProduceError> {
        let mut copied = std::pin::pin!(copied);
        let (mut lines, mut row, mut rows) = (Lines::default(), Row::default(), 0);
        let mut wrapping = Wrapping::new(self.subject.params.compression);
        while let Some(chunk) = copied.try_next().await? {
            lines.feed(&chunk, |line| {
                row.read(line);
                rows += 1;
                record(&mut writer, &row).map_err(|error| ProduceError::Letter { row: rows, error })?;
                writer.end();
                Ok::<_, ProduceError>(())
            })?;
            if writer.out.len() >= PIECE {
                let piece = std::mem::replace(&mut writer.out, Vec::with_capacity(PIECE + (PIECE >> 3)));
                self.pass(wrapping.wrap(piece)?).await?;
                self.counter.rows.store(rows, Ordering::Relaxed);
            }
        }
        self.pass(wrapping.wrap(std::mem::take(&mut writer.out))?).await?;
        self.pass(wrapping.finish()?).await?;
        self.counter.rows.store(rows, Ordering::Relaxed);
        Ok(rows)
    }

    async fn pass(&self, piece: Vec<u8>) -> Result<(), ProduceError> {
        if self.stop.is_cancelled() {
            return Err(ProduceError::Stopped);
        }
        if piece.is_empty() {
            return Ok(());
        }
        self.pieces.send(Ok(piece.into())).await.map_err(|_| ProduceError::Abandoned)
    }
}
