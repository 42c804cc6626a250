//! Reading `.xlsx` and `.csv` as a stream, in bounded memory, whoever made them.

mod csv;
mod encoding;
mod error;
mod feed;
mod guard;
mod header;
mod limits;
mod scan;
mod xlsx;

#[cfg(test)]
mod csv_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod xlsx_tests;

use std::{fs::File, path::Path};

pub use error::FileError;
pub use feed::Reader;
pub use limits::Limits;

pub use crate::domain::{Column, RawCell, RawRow};

/// The kinds of file that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// An Office Open XML workbook.
    Xlsx,
    /// Text with separators.
    Csv,
}

impl FileKind {
    /// The kind that a file's name says, in any case.
    ///
    /// # Errors
    /// [`FileError::UnsupportedFormat`] for any other name.
    pub fn of(filename: &str) -> Result<Self, FileError> {
        let extension = Path::new(filename.trim()).extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("xlsx") => Ok(Self::Xlsx),
            Some("csv") => Ok(Self::Csv),
            _ => Err(FileError::UnsupportedFormat),
        }
    }

    /// The extension, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Xlsx => "xlsx",
            Self::Csv => "csv",
        }
    }
}

/// Opens a file: guards against hostile content, finds the sheet and the header, and reads up to the first
/// row of data. Blocks; the reading itself goes on in a thread of its own, a few hundred rows ahead.
///
/// # Errors
/// Whatever makes the whole file unusable.
pub fn open(path: &Path, kind: FileKind, limits: &Limits) -> Result<Reader, FileError> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size == 0 {
        return Err(FileError::Empty);
    }
    if size > limits.max_bytes {
        return Err(FileError::TooLarge { max_bytes: limits.max_bytes });
    }
    let limits = limits.clone();
    match kind {
        FileKind::Xlsx => Reader::start(move |feed| xlsx::read(file, &limits, feed)),
        FileKind::Csv => Reader::start(move |feed| csv::read(file, &limits, feed)),
    }
}
