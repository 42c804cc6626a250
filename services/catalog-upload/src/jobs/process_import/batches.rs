//! The reading half of an import: rows off the file, validated, in batches, on a thread of its own while
//! the other half writes.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use tokio::sync::mpsc;

use crate::{
    domain::{Column, ProductRow, RawRow, RowError, RowWarning, validate},
    files::{self, FileError, FileKind, Keep, Limits, Others, Reader},
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
    /// Columns that the file lacks: of them, products that are there keep what they have.
    pub absent: Vec<Column>,
    /// Columns of the file that mean nothing here.
    pub ignored_columns: Vec<String>,
    /// Other sheets that have products, which are not read; known of the last batch.
    pub omitted_sheets: Vec<String>,
    /// Of a correction, how many of its rows are those that the other import had rejected.
    pub corrected: usize,
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
            omitted_sheets: reader.omitted_sheets().to_vec(),
            corrected: 0,
            absent: reader.absent_columns().to_vec(),
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

    /// Leaves out all rows but these, which another import rejected, each with its id where that is known. A row that
    /// stands in the place of one of them with another id is refused: rows have moved, and it may be any.
    pub fn keep(&mut self, rejected: &HashMap<u32, Option<String>>) {
        let mut others = Vec::new();
        let mut is_one = |row: u32, id: Option<&str>| match (rejected.get(&row), id) {
            (None, _) => false,
            (Some(Some(was)), Some(id)) if was != id => {
                others.push(other_row(row, id, was));
                false
            }
            (Some(_), _) => true,
        };
        self.valid.retain(|row| is_one(row.row, Some(&row.id)));
        self.invalid.retain(|error| is_one(error.row, error.id.as_deref()));
        let kept: HashSet<u32> = self.valid.iter().map(|row| row.row).collect();
        self.warnings.retain(|warning| kept.contains(&warning.row));
        self.corrected = self.rows();
        self.invalid.extend(others);
    }
}

fn other_row(row: u32, id: &str, was: &str) -> RowError {
    let message = format!(
        "La fila {row} no es la que se rechazó: aquella tiene el id {was}. Conserve el número de cada fila, o cargue \
         el archivo sin la opción de corregir"
    );
    let (column, value) = (Some(Column::Id), Some(RowError::excerpt(id)));
    RowError { row, id: Some(was.to_owned()), code: "not_the_rejected_row", column, value, message }
}

/// Batches as they are read.
pub type Batches = mpsc::Receiver<Result<Batch, FileError>>;

/// Reads the rows of a sheet (none: of the first that has some) after `after_row` (0 for all). A few batches are held at
/// most; dropping the receiver ends the reading.
pub fn read(
    path: PathBuf,
    kind: FileKind,
    (sheet, others): (Option<String>, Others),
    limits: Limits,
    after_row: u32,
    batch_rows: usize,
) -> Batches {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let read_all = || -> Result<(), FileError> {
            let mut reader = {
                let listener = sender.clone();
                // An import that was given up must not leave a thread behind that reads for hours.
                let is_wanted = move || !listener.is_closed();
                let sheet = (sheet.as_deref(), others);
                files::open_while(&path, kind, &limits, Keep::Template, sheet, is_wanted)?
            };
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
