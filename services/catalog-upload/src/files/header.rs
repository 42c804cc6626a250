//! Which column of a file is which column of the template.

use super::FileError;
use crate::domain::Column;

/// Rows with values that are looked at before giving up: titles and notes may stand above the header.
const SEARCHED_ROWS: usize = 20;

/// The known columns by their position in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    by_position: Vec<Option<Column>>,
}

impl Header {
    /// The column at a position from 0, if it is a known one.
    pub fn at(&self, position: u32) -> Option<Column> {
        self.by_position.get(position as usize).copied().flatten()
    }

    fn new<'a>(cells: impl IntoIterator<Item = (u32, &'a str)>) -> Result<Self, FileError> {
        let mut by_position = Vec::new();
        let mut seen = [false; Column::COUNT];
        let mut repeated = Vec::new();
        for (position, text) in cells {
            let Some(column) = Column::from_header(text) else { continue };
            if std::mem::replace(&mut seen[column as usize], true) {
                repeated.push(column);
            }
            let position = position as usize;
            if by_position.len() <= position {
                by_position.resize(position + 1, None);
            }
            by_position[position] = Some(column);
        }
        let missing: Vec<Column> =
            Column::ALL.into_iter().filter(|column| column.required() && !seen[*column as usize]).collect();
        if !missing.is_empty() {
            return Err(FileError::MissingColumns { missing });
        }
        repeated.sort_unstable();
        repeated.dedup();
        if repeated.is_empty() {
            Ok(Self { by_position })
        } else {
            Err(FileError::RepeatedColumns { repeated })
        }
    }
}

/// Looks for the header among the first rows of a file, over all its sheets.
#[derive(Debug, Default)]
pub(super) struct HeaderSearch {
    rows: usize,
    /// The failure that came closest to a header, and how many columns it lacked.
    closest: Option<(usize, FileError)>,
}

impl HeaderSearch {
    /// Begins with another sheet.
    pub fn next_sheet(&mut self) {
        self.rows = 0;
    }

    /// Offers a row that has values, as pairs of position from 0 and text; gives the header if it is one.
    pub fn offer<'a>(&mut self, cells: impl IntoIterator<Item = (u32, &'a str)>) -> Option<Header> {
        self.rows += 1;
        let error = match Header::new(cells) {
            Ok(header) => return Some(header),
            Err(error) => error,
        };
        let lacks = match &error {
            FileError::MissingColumns { missing } => missing.len(),
            _ => 0,
        };
        if self.closest.as_ref().is_none_or(|(fewest, _)| lacks < *fewest) {
            self.closest = Some((lacks, error));
        }
        None
    }

    /// Whether this sheet's header can't come any more.
    pub fn exhausted(&self) -> bool {
        self.rows >= SEARCHED_ROWS
    }

    /// Why there is no header: what the closest row lacks, or that there is nothing at all.
    pub fn failure(self) -> FileError {
        self.closest.map_or(FileError::Empty, |(_, error)| error)
    }
}
