//! The rows that a load leaves out, with the reason, in a file beside the one that was loaded.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use csv::ByteRecord;

/// Columns before the row's own.
const ADDED: [&str; 2] = ["row", "reason"];

/// The number of a rejected row.
fn row(record: &ByteRecord) -> Option<i64> {
    std::str::from_utf8(record.get(0)?).ok()?.parse().ok()
}

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
    /// `detalle.csv` has `detalle.csv.rejected.csv`. Of one that is there, rows after `loaded` go: their batch was broken
    /// off, and they come again.
    ///
    /// # Errors
    /// A file that is there and can't be read or written.
    pub fn open(of: &Path, head: ByteRecord, loaded: i64, most: usize) -> anyhow::Result<Self> {
        let mut name = of.file_name().unwrap_or_default().to_owned();
        name.push(".rejected.csv");
        let mut rejects = Self { path: of.with_file_name(name), head, count: 0, most };
        if !rejects.path.exists() {
            return Ok(rejects);
        }
        let all = rejects.read()?;
        let kept: Vec<_> =
            all.iter().filter(|record| row(record).is_some_and(|row| row <= loaded)).cloned().collect();
        if kept.len() == all.len() {
            rejects.count = kept.len();
            return Ok(rejects);
        }
        // In one step: this is the only list of what was left out.
        let path = rejects.path.clone();
        rejects.path.set_extension("csv.new");
        let said = |path: &Path| path.display().to_string();
        if rejects.path.exists() {
            fs::remove_file(&rejects.path).with_context(|| said(&rejects.path))?;
        }
        rejects.append(kept)?;
        if rejects.path.exists() {
            fs::rename(&rejects.path, &path).with_context(|| said(&path))?;
        } else {
            fs::remove_file(&path).with_context(|| said(&path))?;
        }
        Ok(Self { path, ..rejects })
    }

    fn read(&self) -> anyhow::Result<Vec<ByteRecord>> {
        let said = || self.path.display().to_string();
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(&self.path).with_context(said)?;
        reader.byte_records().collect::<Result<Vec<_>, _>>().with_context(said)
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
