//! The rows that a load leaves out, with the reason, in a file beside the one that was loaded.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use csv::ByteRecord;

/// Columns before the row's own.
const ADDED: [&str; 2] = ["row", "reason"];

/// The file of rejected rows, which appears with the first of them.
pub struct Rejects {
    path: PathBuf,
    /// The loaded file's columns.
    head: ByteRecord,
    /// Rows in it.
    pub count: usize,
    /// More than these are no accident.
    most: usize,
}

impl Rejects {
    /// `detalle.csv` has `detalle.rejected.csv`. Of one that is there, rows after `loaded` go: their batch was broken
    /// off, and they come again.
    ///
    /// # Errors
    /// A file that is there and can't be read or written.
    pub fn open(of: &Path, head: ByteRecord, loaded: i64, most: usize) -> anyhow::Result<Self> {
        let mut rejects = Self { path: of.with_extension("rejected.csv"), head, count: 0, most };
        let kept = match loaded {
            0 => Vec::new(),
            _ if !rejects.path.exists() => Vec::new(),
            _ => rejects.up_to(loaded)?,
        };
        if rejects.path.exists() {
            fs::remove_file(&rejects.path).with_context(|| rejects.path.display().to_string())?;
        }
        rejects.append(kept)?;
        Ok(rejects)
    }

    fn up_to(&self, loaded: i64) -> anyhow::Result<Vec<ByteRecord>> {
        let said = || self.path.display().to_string();
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(&self.path).with_context(said)?;
        let records = reader.byte_records().collect::<Result<Vec<_>, _>>().with_context(said)?;
        let row = |record: &ByteRecord| {
            record
                .get(0)
                .and_then(|row| std::str::from_utf8(row).ok())
                .and_then(|row| row.parse::<i64>().ok())
        };
        Ok(records.into_iter().filter(|record| row(record).is_some_and(|row| row <= loaded)).collect())
    }

    /// Adds rows: each its number, the reason and what it holds.
    ///
    /// # Errors
    /// The file; more rejected rows than are allowed.
    pub fn add(&mut self, rows: &[(i64, String, ByteRecord)]) -> anyhow::Result<()> {
        let records = rows.iter().map(|(row, reason, record)| {
            let mut line = ByteRecord::from(vec![row.to_string(), reason.clone()]);
            line.extend(record.iter());
            line
        });
        self.append(records.collect())?;
        ensure!(
            self.count <= self.most,
            "more than {} rows are rejected, see {}; --max-rejects allows more",
            self.most,
            self.path.display()
        );
        Ok(())
    }

    fn append(&mut self, records: Vec<ByteRecord>) -> anyhow::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let said = || self.path.display().to_string();
        let is_new = !self.path.exists();
        let file = OpenOptions::new().create(true).append(true).open(&self.path).with_context(said)?;
        let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(&file);
        if is_new {
            let mut head = ByteRecord::from(ADDED.to_vec());
            head.extend(self.head.iter());
            writer.write_byte_record(&head).with_context(said)?;
        }
        for record in &records {
            writer.write_byte_record(record).with_context(said)?;
        }
        writer.flush().with_context(said)?;
        drop(writer);
        file.sync_all().with_context(said)?;
        self.count += records.len();
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
