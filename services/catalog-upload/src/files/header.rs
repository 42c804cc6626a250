//! Which column of a file is which column of the template.

use super::FileError;
use crate::domain::{Column, HeaderName, trim};

/// Rows with values that are looked at before giving up: titles and notes may stand above the header.
const SEARCHED_ROWS: usize = 20;

/// Other columns that are named to the sender, and characters of each name: enough to see what was meant.
const NAMED_COLUMNS: usize = 50;
const NAME_CHARS: usize = 64;
/// Headers of one column that a message names.
const NAMED_REPEATS: usize = 3;

/// Columns that annotated workbooks have, and that come back with them.
pub(super) const ERRORS: &str = "errores";
pub(super) const WARNINGS: &str = "advertencias";

/// The row that names the columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderRow {
    /// Its number in the file.
    pub row: u32,
    /// Its cells that have a text, in the file's order.
    pub cells: Vec<HeaderCell>,
}

/// A column's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderCell {
    /// The column's position from 0.
    pub position: u32,
    /// The text as the file has it.
    pub text: String,
    /// The template's column, if it is one.
    pub column: Option<Column>,
}

/// The columns by their position in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    by_position: Vec<Option<Column>>,
    /// Names of columns that the template doesn't have.
    pub ignored: Vec<String>,
}

impl Header {
    /// The column at a position from 0, if it is a known one.
    pub fn at(&self, position: u32) -> Option<Column> {
        self.by_position.get(position as usize).copied().flatten()
    }

    /// How many columns it reaches over, unnamed ones between others too.
    pub fn width(&self) -> u32 {
        // Positions are u32.
        self.by_position.len() as u32
    }

    /// The columns of the template that it lacks.
    pub fn absent(&self) -> Vec<Column> {
        Column::ALL.into_iter().filter(|column| !self.by_position.contains(&Some(*column))).collect()
    }

    fn new<'a>(cells: impl IntoIterator<Item = (u32, &'a str)>) -> Result<Self, FileError> {
        let cells = cells.into_iter().filter(|(_, text)| !trim(text).is_empty());
        let cells: Vec<_> = cells.map(|(position, text)| (position, text, HeaderName::of(text))).collect();
        // Where a column stands under its own name, its other names are names of other columns.
        let own: Vec<Column> = cells.iter().filter_map(|(.., name)| name.column).collect();
        // Cells of a row need not stand in order.
        let width = cells.iter().map(|(position, ..)| *position as usize + 1).max().unwrap_or(0);
        let mut by_position = vec![None; width];
        let mut headers: [Vec<&str>; Column::COUNT] = Default::default();
        let mut ignored = Vec::new();
        for (position, text, name) in cells {
            let column = name.column.or(name.alias_of.filter(|column| !own.contains(column)));
            by_position[position as usize] = column;
            match column {
                Some(column) => headers[column as usize].push(text),
                None if is_annotation(text) || ignored.len() == NAMED_COLUMNS => {}
                None => ignored.push(plain(text)),
            }
        }
        let found = |column: &Column| headers[*column as usize].len();
        let missing: Vec<Column> =
            Column::ALL.into_iter().filter(|column| column.required() && found(column) == 0).collect();
        if !missing.is_empty() {
            return Err(FileError::MissingColumns { missing });
        }
        let repeated = Column::ALL.into_iter().filter(|column| found(column) > 1);
        let names = |column| headers[column as usize].iter().take(NAMED_REPEATS).map(|text| plain(text));
        let repeated: Vec<_> = repeated.map(|column| (column, names(column).collect())).collect();
        if repeated.is_empty() {
            Ok(Self { by_position, ignored })
        } else {
            Err(FileError::RepeatedColumns { repeated })
        }
    }
}

/// Whether a header is that of a column which an annotated workbook has besides the original's.
pub(super) fn is_annotation(header: &str) -> bool {
    matches!(trim(header), ERRORS | WARNINGS)
}

/// The name of a column or a sheet as it may stand in a message.
pub(super) fn plain(header: &str) -> String {
    trim(header).chars().filter(|character| !character.is_control()).take(NAME_CHARS).collect()
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

    /// Passes over a row that has values of which none is a text, so that it can't be one.
    pub fn pass(&mut self) {
        self.rows += 1;
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
