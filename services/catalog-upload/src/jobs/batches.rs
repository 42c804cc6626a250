//! The reading half of an import: rows off the file, validated, in batches, on a thread of its own while
//! the other half writes.

use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::{
    domain::{ProductRow, RowError, validate},
    files::{self, FileError, FileKind, Limits},
};

/// Rows that follow one another in the file.
#[derive(Debug)]
pub struct Batch {
    /// The number of its last row.
    pub last_row: u32,
    pub valid: Vec<ProductRow>,
    pub invalid: Vec<RowError>,
    /// How many rows the file has: a guess until its end.
    pub total_hint: Option<u64>,
}

impl Batch {
    pub fn rows(&self) -> usize {
        self.valid.len() + self.invalid.len()
    }
}

/// Reads the rows after `after_row` (0 for all). Two batches are held at most; dropping the receiver ends
/// the reading.
pub fn read(
    path: PathBuf,
    kind: FileKind,
    limits: Limits,
    after_row: u32,
    batch_rows: usize,
) -> mpsc::Receiver<Result<Batch, FileError>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let read_all = || -> Result<(), FileError> {
            let mut reader = files::open(&path, kind, &limits)?;
            reader.skip_to(after_row + 1);
            while let Some(rows) = reader.next_batch(batch_rows)? {
                let mut batch = Batch {
                    last_row: rows.last().map_or(after_row, |row| row.number),
                    valid: Vec::with_capacity(rows.len()),
                    invalid: Vec::new(),
                    total_hint: reader.total_hint(),
                };
                for row in rows {
                    match validate(row) {
                        Ok(row) => batch.valid.push(row),
                        Err(error) => batch.invalid.push(error),
                    }
                }
                if sender.blocking_send(Ok(batch)).is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = read_all() {
            // Nobody listens where the import was given up.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}
