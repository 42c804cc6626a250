//! A row as it was read, as it must be, and what was wrong with it.

use std::borrow::Cow;

use rust_decimal::Decimal;
use tabular::begins_like_a_formula;

use super::{
    Column,
    numbers::{self, DecimalMark},
};

/// A cell as the file holds it, trimmed.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RawCell {
    /// Nothing, or only spaces.
    #[default]
    Empty,
    /// Text, trimmed, never empty, cut at `Limits::max_cell_chars`.
    Text(String),
    /// A number: spreadsheets keep every number as this.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// A number that its format shows as a date or a time, in ISO 8601.
    DateTime(String),
    /// The result of a formula that failed, such as `#N/A`, or [`NOT_COMPUTED`].
    Error(&'static str),
}

/// Stands for the result of a formula that no program has computed: some write formulas alone. It looks like an error of
/// Excel's, so that it is refused as one where it comes back as a text.
pub const NOT_COMPUTED: &str = "#¡SIN_CALCULAR!";

impl RawCell {
    /// A cell of text: trimmed, cut at `max_chars`, empty if nothing is left.
    pub fn text(value: &str, max_chars: usize) -> Self {
        let trimmed = trim(value);
        if trimmed.is_empty() {
            return Self::Empty;
        }
        // Bytes are never fewer than characters, so most cells need no count.
        if trimmed.len() > max_chars
            && let Some((end, _)) = trimmed.char_indices().nth(max_chars)
        {
            return Self::Text(trimmed[..end].to_owned());
        }
        Self::Text(trimmed.to_owned())
    }

    /// A cell of a file's text: as [`Self::text`], without what programs put around a text that is no formula.
    /// `="0044"` is how zeros are kept from Excel; `'=1+1` is what our own files have for a text that begins
    /// like a formula.
    pub fn from_file(value: &str, max_chars: usize) -> Self {
        // Nearly all texts begin with what they are.
        let first = match value.as_bytes().first() {
            Some(b'=' | b'\'') => value.as_bytes().first(),
            Some(byte) if *byte > b' ' && *byte < 0x80 => None,
            _ => trim(value).as_bytes().first(),
        };
        match first {
            Some(b'=') => match quoted_formula(trim(value)) {
                Some(text) => Self::text(&text, max_chars),
                None => Self::text(value, max_chars),
            },
            Some(b'\'') => match trim(value).strip_prefix('\'') {
                Some(rest) if begins_like_a_formula(rest.trim_start_matches('\'')) => {
                    Self::text(rest, max_chars)
                }
                _ => Self::text(value, max_chars),
            },
            _ => Self::text(value, max_chars),
        }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// What its text takes.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::DateTime(text) => text.len(),
            _ => 0,
        }
    }

    /// What a person would read in the cell.
    pub fn display(&self) -> Cow<'_, str> {
        match self {
            Self::Empty => Cow::Borrowed(""),
            Self::Text(text) | Self::DateTime(text) => Cow::Borrowed(text),
            Self::Number(number) => Cow::Owned(numbers::render(*number)),
            Self::Bool(true) => Cow::Borrowed("TRUE"),
            Self::Bool(false) => Cow::Borrowed("FALSE"),
            Self::Error(error) => Cow::Borrowed(error),
        }
    }
}

/// The text of a formula that is nothing but a text: `="a ""b"""` is `a "b"`.
fn quoted_formula(formula: &str) -> Option<String> {
    let inner = formula.strip_prefix('=')?.trim_start().strip_prefix('"')?.strip_suffix('"')?;
    let text = inner.replace("\"\"", "\u{0}");
    (!text.contains('"') && !inner.contains('\0')).then(|| text.replace('\0', "\""))
}

/// Without the spaces around it, the invisible ones too.
pub fn trim(value: &str) -> &str {
    value.trim_matches(|character: char| {
        character.is_whitespace() || matches!(character, '\u{feff}' | '\u{200b}')
    })
}

/// A row of more values than columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Up to its last value.
    pub values: usize,
    /// Of the header.
    pub columns: usize,
    /// What separates them.
    pub separator: char,
}

/// One row of a file, with the cells of the known columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawRow {
    /// The row's number in the sheet, or the record's in a CSV file. The header of a template is 1.
    pub number: u32,
    /// Cells of other columns by their position from 0, in the file's order, the values of a `surplus` too; kept only for
    /// who asks for them.
    pub others: Vec<(u32, RawCell)>,
    /// Set where the file gives the row more values than its header has columns: nobody knows then which
    /// value belongs to which column.
    pub surplus: Option<Box<Surplus>>,
    /// Whether bytes of it were not in the file's encoding, and were read in another.
    pub mixed_encoding: bool,
    cells: [RawCell; Column::COUNT],
    marks: [Option<DecimalMark>; Column::COUNT],
}

impl RawRow {
    /// A row without cells yet.
    pub fn new(number: u32) -> Self {
        Self { number, ..Self::default() }
    }

    /// The cell of a column; empty where the file lacks the column.
    pub fn cell(&self, column: Column) -> &RawCell {
        &self.cells[column as usize]
    }

    /// Sets the cell of a column.
    pub fn set(&mut self, column: Column, cell: RawCell) {
        self.cells[column as usize] = cell;
    }

    /// Takes the cell of a column out of the row.
    pub fn take(&mut self, column: Column) -> RawCell {
        std::mem::take(&mut self.cells[column as usize])
    }

    /// What the texts of all its cells take.
    pub fn text_bytes(&self) -> usize {
        let others = self.others.iter().map(|(_, cell)| cell);
        self.cells.iter().chain(others).map(RawCell::text_bytes).sum()
    }

    /// What marks the decimals in the texts of a column, where its other values tell.
    pub fn mark(&self, column: Column) -> Option<DecimalMark> {
        self.marks[column as usize]
    }

    /// Sets what marks the decimals, for all columns.
    pub fn set_marks(&mut self, marks: [Option<DecimalMark>; Column::COUNT]) {
        self.marks = marks;
    }

    /// Whether no column that is kept has a value.
    pub fn is_empty(&self) -> bool {
        self.cells.iter().all(RawCell::is_empty) && self.others.is_empty() && self.surplus.is_none()
    }
}

/// A row that keeps all rules.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductRow {
    /// The row's number in the file.
    pub row: u32,
    /// The product's id.
    pub id: String,
    /// Its name.
    pub nombre: String,
    /// The supplier's code.
    pub codigo: String,
    /// Its category.
    pub categoria: String,
    /// Package or presentation.
    pub presentacion: Option<String>,
    /// Unit price: not negative, at most 12 digits of which 2 are decimals.
    pub precio_unitario: Decimal,
    /// Sanitary certificate.
    pub certificado_sanitario: String,
    /// Storage conditions.
    pub condiciones_almacenamiento: String,
    /// Delivery time in days, at least 1. Every row of a file has it; a product from a form may not.
    pub tiempo_entrega_dias: Option<i32>,
    /// Minimum stock, units.
    pub stock_minimo: i32,
    /// Critical stock, units.
    pub stock_critico: i32,
    /// Whether stock is kept by lot.
    pub requiere_lote: bool,
    /// Whether stock expires.
    pub requiere_vencimiento: bool,
}

/// Why a row is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// The row's number in the file.
    pub row: u32,
    /// The row's id, where it may stay as it is: a correction of the row is told by it.
    pub id: Option<String>,
    /// Stable, for programs: that of the row's first problem.
    pub code: &'static str,
    /// The column of the first problem, where it lies in one.
    pub column: Option<Column>,
    /// What the cell held, at most 100 characters.
    pub value: Option<String>,
    /// All problems of the row, in Spanish, with what to do.
    pub message: String,
}

impl RowError {
    /// The longest `value`, in characters.
    pub const MAX_VALUE: usize = 100;

    /// The start of a value, short enough to keep. NUL is replaced, since PostgreSQL cannot hold it.
    pub fn excerpt(value: &str) -> String {
        let character = |character| if character == '\0' { '\u{fffd}' } else { character };
        value.chars().take(Self::MAX_VALUE).map(character).collect()
    }
}
