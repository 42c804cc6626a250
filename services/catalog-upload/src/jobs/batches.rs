//! The reading half of an import: rows off the file, validated, in batches, on a thread of its own while
//! the other half writes.

use std::{collections::HashSet, path::PathBuf};

use tokio::sync::mpsc;

use crate::{
    domain::{ProductRow, RawRow, RowError, RowWarning, validate},
    files::{self, FileError, FileKind, Limits, Reader},
};

/// Rows of the first batch, at most.
const FIRST_ROWS: usize = 1_000;

/// Rows that follow one another in the file.
#[derive(Debug)]
pub struct Batch {
    /// The number of its last row.
    pub last_row: u32,
    pub valid: Vec<ProductRow>,
    pub invalid: Vec<RowError>,
    /// Of the valid rows, in their order.
    pub warnings: Vec<RowWarning>,
    /// Columns of the file that mean nothing here.
    pub ignored_columns: Vec<String>,
    /// How many rows the file has: a guess, exact in the last batch.
    pub total_hint: Option<u64>,
}

impl Batch {
    fn validate(rows: Vec<RawRow>, reader: &Reader) -> Self {
        let last_row = rows.last().map_or(0, |row| row.number);
        let mut batch = Self {
            last_row,
            valid: Vec::with_capacity(rows.len()),
            invalid: Vec::new(),
            warnings: Vec::new(),
            ignored_columns: reader.ignored_columns().to_vec(),
            total_hint: reader.total_hint(),
        };
        for row in rows {
            match validate(row) {
                Ok(checked) => {
                    batch.valid.push(checked.row);
                    batch.warnings.extend(checked.warnings);
                }
                Err(error) => batch.invalid.push(error),
            }
        }
        batch
    }

    pub fn rows(&self) -> usize {
        self.valid.len() + self.invalid.len()
    }

    /// Leaves out all rows but these.
    pub fn keep(&mut self, rows: &HashSet<u32>) {
        self.valid.retain(|row| rows.contains(&row.row));
        self.invalid.retain(|error| rows.contains(&error.row));
        self.warnings.retain(|warning| rows.contains(&warning.row));
    }
}

/// Batches as they are read.
pub type Batches = mpsc::Receiver<Result<Batch, FileError>>;

/// Reads the rows after `after_row` (0 for all). A few batches are held at most; dropping the receiver ends
/// the reading.
pub fn read(path: PathBuf, kind: FileKind, limits: Limits, after_row: u32, batch_rows: usize) -> Batches {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let read_all = || -> Result<(), FileError> {
            let mut reader = files::open(&path, kind, &limits)?;
            reader.skip_to(after_row + 1);
            // Small ones first, so that writing begins while most of the file is still to be read; and each not so
            // much larger than the one before that the writer would wait for it.
            let mut size = batch_rows.min(FIRST_ROWS);
            while let Some(rows) = reader.next_batch(size)? {
                size = batch_rows.min(size + size / 2);
                // The last batch knows how many rows there are: so it has to be known to be the last.
                reader.has_more()?;
                if sender.blocking_send(Ok(Batch::validate(rows, &reader))).is_err() {
                    // Nobody listens where the import was given up.
                    return Ok(());
                }
            }
            Ok(())
        };
        if let Err(error) = read_all() {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}
