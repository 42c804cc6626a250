//! Reading `.xlsx` and `.csv` as a stream, in bounded memory, whoever made them.

pub mod annotate;
mod csv;
mod encoding;
mod error;
mod feed;
mod gate;
mod guard;
mod guide;
mod header;
mod limits;
mod marks;
mod mend;
mod scan;
pub mod template;
mod xlsx;

#[cfg(test)]
mod annotate_tests;
#[cfg(test)]
mod columns_tests;
#[cfg(test)]
mod csv_tests;
#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod made;
#[cfg(test)]
mod template_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod xlsx_tests;

use std::{fs::File, path::Path};

pub use error::FileError;
pub use feed::Reader;
use header::Header;
pub use header::{HeaderCell, HeaderRow};
pub use limits::Limits;

use crate::domain::trim;
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

/// What is kept of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The template's columns: what an import needs.
    Template,
    /// The columns of the header, whatever their names, and the header itself: what a copy needs. Cells to the
    /// right of the header's last one are not kept.
    Everything,
}

impl Keep {
    fn header<'a>(
        self,
        header: &Header,
        row: u32,
        cells: impl IntoIterator<Item = (u32, &'a str)>,
    ) -> Option<HeaderRow> {
        let cell = |(position, text): (u32, &str)| HeaderCell {
            position,
            text: text.to_owned(),
            column: header.at(position),
        };
        let has_text = |cell: &(u32, &str)| !trim(cell.1).is_empty();
        match self {
            Self::Template => None,
            Self::Everything => {
                Some(HeaderRow { row, cells: cells.into_iter().filter(has_text).map(cell).collect() })
            }
        }
    }
}

/// Opens a file for an import: guards against hostile content, finds the sheet and the header, and reads up
/// to the first row of data. Blocks; the reading itself goes on in a thread of its own, a few hundred rows
/// ahead.
///
/// # Errors
/// Whatever makes the whole file unusable.
pub fn open(path: &Path, kind: FileKind, limits: &Limits) -> Result<Reader, FileError> {
    open_keeping(path, kind, limits, Keep::Template)
}

/// The same of a sheet that somebody chose, or (none) of the first that has rows. A CSV file has none to choose.
///
/// # Errors
/// [`FileError::NoSuchSheet`]; whatever makes the whole file unusable.
pub fn open_sheet(
    path: &Path,
    kind: FileKind,
    limits: &Limits,
    keep: Keep,
    sheet: Option<&str>,
) -> Result<Reader, FileError> {
    open_while(path, kind, limits, keep, (sheet, Others::Named), || true)
}

/// Whether the other sheets are looked at, so that those with products can be named: that may take as long as reading
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They are.
    Named,
    /// They are known, or nobody asks.
    PassedOver,
}

/// The same for who may give up meanwhile: the reading ends soon after `is_wanted` says no, also before there is a first
/// row. It is asked from another thread, and often.
///
/// # Errors
/// As [`open_sheet`].
pub fn open_while(
    path: &Path,
    kind: FileKind,
    limits: &Limits,
    keep: Keep,
    (sheet, others): (Option<&str>, Others),
    is_wanted: impl Fn() -> bool + Send + 'static,
) -> Result<Reader, FileError> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size == 0 {
        return Err(FileError::Empty);
    }
    if size > limits.max_bytes {
        return Err(FileError::TooLarge { max_bytes: limits.max_bytes });
    }
    let (limits, sheet) = (limits.clone(), sheet.map(str::to_owned));
    match kind {
        FileKind::Xlsx => {
            // What is mended on the way is as large as the file, and belongs where that is.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let scratch = folder.unwrap_or(Path::new(".")).to_owned();
            let read = move |feed: &mut feed::Feed| {
                let wanted = xlsx::Wanted { keep, sheet: sheet.as_deref(), others };
                xlsx::read(file, &scratch, &limits, wanted, feed)
            };
            Reader::start(is_wanted, read)
        }
        FileKind::Csv => {
            Reader::start(is_wanted, move |feed: &mut feed::Feed| csv::read(file, &limits, keep, feed))
        }
    }
}

/// The same, for who needs more than the template's columns.
///
/// # Errors
/// Whatever makes the whole file unusable.
pub fn open_keeping(path: &Path, kind: FileKind, limits: &Limits, keep: Keep) -> Result<Reader, FileError> {
    open_sheet(path, kind, limits, keep, None)
}
