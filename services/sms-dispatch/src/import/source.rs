//! Where rows come from, and how they are cut into batches.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use anyhow::Context as _;
use rusqlite::Connection;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    csv::{Csv, Place},
    raw::RawRow,
    sqlite::{self, Sqlite},
};
use crate::domain::source::{Kind, Mapping};

/// An opened source.
#[derive(Clone, Debug)]
pub enum Source {
    Sqlite(Sqlite),
    Csv(Csv),
}

impl Source {
    /// Opens `path`; of a CSV file, `mapping` says which column is what.
    ///
    /// # Errors
    /// A file that is neither, or that lacks what it needs.
    pub fn open(path: &Path, limit: Option<u64>, mapping: &Mapping) -> anyhow::Result<Self> {
        let mut beginning = [0; 16];
        let mut file = File::open(path).with_context(|| format!("{} can't be opened", path.display()))?;
        let read = file.read(&mut beginning).with_context(|| format!("{} can't be read", path.display()))?;
        Ok(match Kind::detect(&beginning[..read]) {
            Kind::Sqlite => Self::Sqlite(Sqlite::open(path, limit)?),
            Kind::Csv => Self::Csv(Csv::open(path, limit, mapping)?),
        })
    }

    pub const fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Csv(_) => Kind::Csv,
        }
    }

    /// How many rows there are to read, where that is known before reading them.
    pub const fn rows(&self) -> Option<i64> {
        match self {
            Self::Sqlite(sqlite) => Some(sqlite.rows),
            Self::Csv(_) => None,
        }
    }

    /// Whether only respelled phones can collide.
    pub const fn phones_are_unique(&self) -> bool {
        match self {
            Self::Sqlite(sqlite) => sqlite.phones_are_unique,
            Self::Csv(_) => false,
        }
    }

    /// How many batches can be read at once: any number by id, one from front to back.
    pub const fn readers(&self, wanted: usize) -> usize {
        match self {
            Self::Sqlite(_) => wanted,
            Self::Csv(_) => 1,
        }
    }
}

/// A part of a source, small enough for one transaction.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its number: it names the same rows in every attempt.
    pub number: i64,
    part: Part,
}

#[derive(Clone, Debug)]
enum Part {
    Ids { first: i64, last: i64 },
    Lines { from: Place, most: usize },
}

/// Hands batches out, those that are not done.
pub struct Batches {
    size: i64,
    done: std::collections::BTreeSet<i64>,
    rest: Rest,
}

enum Rest {
    Ids { conn: Connection, next: Option<i64>, last: i64 },
    Lines { next: i64, place: Option<Place> },
}

impl Batches {
    /// `done` are the numbers of batches that are done, with where the next one begins.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn new(source: &Source, size: i64, done: &[(i64, Option<Value>)]) -> anyhow::Result<Self> {
        let rest = match source {
            Source::Sqlite(sqlite) => {
                let (next, last) = sqlite.bounds.map_or((None, 0), |(first, last)| (Some(first), last));
                Rest::Ids { conn: sqlite.connect()?, next, last }
            }
            Source::Csv(csv) => match done.iter().max_by_key(|(number, _)| *number) {
                None => Rest::Lines { next: 0, place: Some(csv.first_place()) },
                Some((number, position)) => {
                    let place = position
                        .clone()
                        .map(serde_json::from_value)
                        .transpose()
                        .context("a batch's position")?;
                    Rest::Lines { next: number + 1, place }
                }
            },
        };
        Ok(Self { size, done: done.iter().map(|(number, _)| *number).collect(), rest })
    }

    /// The next one to do.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        match &mut self.rest {
            Rest::Ids { conn, next, last } => loop {
                // Over holes in the ids, however wide.
                let Some(from) = *next else { return Ok(None) };
                let Some(first) = sqlite::next_id(conn, from)?.filter(|first| first <= last) else {
                    *next = None;
                    return Ok(None);
                };
                let number = first.div_euclid(self.size);
                let end = number.saturating_mul(self.size).saturating_add(self.size - 1);
                *next = end.checked_add(1);
                if !self.done.contains(&number) {
                    let part = Part::Ids { first, last: end.min(*last) };
                    return Ok(Some(Batch { number, part }));
                }
            },
            Rest::Lines { next, place } => {
                let Some(from) = place.take() else { return Ok(None) };
                let number = *next;
                *next += 1;
                let most = usize::try_from(self.size)?;
                Ok(Some(Batch { number, part: Part::Lines { from, most } }))
            }
        }
    }

    /// Tells where the batch ended, for the next one to begin there.
    pub fn ended(&mut self, end: Option<Place>) {
        if let Rest::Lines { place, .. } = &mut self.rest {
            *place = end;
        }
    }
}

impl Batch {
    /// Reads its rows, in order, as long as `each` wants more; gives where the next batch begins, in sources that are
    /// read from front to back.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn read(
        &self,
        source: &Source,
        mut each: impl FnMut(&RawRow<'_>) -> bool,
    ) -> anyhow::Result<Option<Place>> {
        match (source, &self.part) {
            (Source::Sqlite(sqlite), Part::Ids { first, last }) => {
                sqlite::read(&sqlite.connect()?, *first, *last, each).map(|()| None)
            }
            (Source::Csv(csv), Part::Lines { from, most }) => csv.read(from, *most, &mut each),
            _ => anyhow::bail!("a batch of another source"),
        }
    }
}

/// What tells one file from another, whatever it is called and wherever it is: its size, and the SHA-256 of its first,
/// middle and last megabyte.
///
/// # Errors
/// A file that can't be read.
pub fn fingerprint(path: &Path) -> anyhow::Result<String> {
    const PART: u64 = 1 << 20;
    let said = || format!("{} can't be read", path.display());
    let mut file = File::open(path).with_context(said)?;
    let size = file.metadata().with_context(said)?.len();
    let mut hash = Sha256::new();
    hash.update(size.to_be_bytes());
    for start in [0, size / 2, size.saturating_sub(PART)] {
        file.seek(SeekFrom::Start(start)).with_context(said)?;
        let mut part = Vec::new();
        (&mut file).take(PART).read_to_end(&mut part).with_context(said)?;
        hash.update(&part);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file's name, for people.
pub fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
