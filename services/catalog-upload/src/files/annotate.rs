//! The sender's own workbook with what is wrong marked and explained: each row keeps its number, so that the
//! corrected workbook can be run again by row number.
//!
//! Streamed from the original to the copy, a row at a time: memory doesn't grow with the rows. Kept are the
//! columns that the header reaches over, with their values; formats, formulas, other sheets and what stands
//! above the header are not. What is refused in the original is refused in the copy, unless somebody changed it: a
//! copy that comes back with one row mended must not smuggle the others in.

use std::{borrow::Cow, path::Path};

use rust_xlsxwriter::{
    Color, ExcelDateTime, Format, FormatAlign, FormatBorder, Workbook, Worksheet, XlsxError,
};

use super::{
    FileError, FileKind, HeaderRow, Keep, Limits, guide,
    header::{ERRORS, WARNINGS, is_annotation},
    open_sheet,
};
use crate::domain::{Column, RawCell, RawRow};

/// What Excel takes in one cell, UTF-16 units.
const MAX_TEXT: usize = 32_767;
/// Excel's columns.
const MAX_COLUMNS: u32 = 16_384;
/// Rows that are held at once. Each may be as large as `Limits::max_token_bytes` several times over.
const BATCH_ROWS: usize = 16;
/// A header further down stays where it is, but scrolls with the rest.
const MAX_FROZEN_ROWS: u32 = 20;
const NOTES_WIDTH: f64 = 70.0;
const OTHER_WIDTH: f64 = 16.0;
/// Stands in the last column of a row that has more values than columns: which of them belongs there, nobody knows. Like
/// the other, it looks like an error of Excel's, which no column takes.
const SURPLUS: &str = "#¡SOBRAN_VALORES!";
/// Stands for a date that Excel doesn't know.
const UNKNOWN_DATE: &str = "#¡FECHA!";

/// Something to say about a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The row's number in the original.
    pub row: u32,
    /// How bad it is.
    pub kind: NoteKind,
    /// The column whose cell is marked more than its row, where there is one.
    pub column: Option<Column>,
    /// For the sender.
    pub message: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// The row was rejected.
    Error,
    /// It was accepted.
    Warning,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotated {
    /// Rows of data.
    pub rows: u64,
    /// Those of them that have a note.
    pub marked: u64,
    /// The size of the workbook.
    pub bytes: u64,
}

/// Why there is no annotated workbook.
#[derive(Debug, thiserror::Error)]
pub enum AnnotateError {
    /// The original can't be read (any more).
    #[error(transparent)]
    Source(#[from] FileError),
    /// The notes could not be had.
    #[error("the notes could not be read: {0:#}")]
    Notes(anyhow::Error),
    /// The copy could not be written.
    #[error("the annotated workbook could not be written: {0}")]
    Write(#[from] XlsxError),
}

/// Writes an annotated copy of `source` to `target`, always as .xlsx; scratch files go beside `target`.
/// `notes` come sorted by row. Those of rows that the original hasn't are passed over.
///
/// Blocks. An async caller runs it by `spawn_blocking` and feeds the notes through a channel, as
/// `std::iter::from_fn(|| receiver.blocking_recv())`.
///
/// # Errors
/// What the original, the notes or the disk refuse. What was written until then is of no use.
pub fn annotate(
    source: &Path,
    kind: FileKind,
    sheet: Option<&str>,
    limits: &Limits,
    notes: impl IntoIterator<Item = anyhow::Result<Note>>,
    target: &Path,
) -> Result<Annotated, AnnotateError> {
    // A copy keeps what an import may cut.
    let limits = Limits { max_cell_chars: MAX_TEXT, ..limits.clone() };
    let mut reader = open_sheet(source, kind, &limits, Keep::Everything, sheet)?;
    let header = reader.header().ok_or_else(|| FileError::corrupt("sin encabezado"))?;
    let layout = Layout::of(header)?;

    let mut workbook = Workbook::new();
    if let Some(dir) = target.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        workbook.set_tempdir(dir)?;
    }
    let sheet = workbook.add_worksheet_with_constant_memory()?;
    // A name that Excel would not take is one that Excel did not write.
    if sheet.set_name(reader.sheet().unwrap_or("Sheet1")).is_err() {
        sheet.set_name("Sheet1")?;
    }
    let formats = Formats::new();
    write_header(sheet, header, &layout)?;

    let mut notes = Notes { notes: notes.into_iter(), ahead: None };
    let mut annotated = Annotated { rows: 0, marked: 0, bytes: 0 };
    let mut last_row = layout.header_row;
    while let Some(rows) = reader.next_batch(BATCH_ROWS)? {
        for row in rows {
            let about = notes.of_row(row.number)?;
            write_row(sheet, &row, &about, &layout, &formats)?;
            last_row = row.number;
            annotated.rows += 1;
            annotated.marked += u64::from(!about.is_empty());
        }
    }
    sheet.autofilter(layout.header_row - 1, 0, last_row - 1, layout.warnings_at())?;
    workbook.save(target)?;
    annotated.bytes = std::fs::metadata(target).map_err(FileError::Io)?.len();
    Ok(annotated)
}

/// Where things stand in the copy: where they stood in the original.
struct Layout {
    /// The header's row number.
    header_row: u32,
    columns: [Option<u16>; Column::COUNT],
    /// The template's column that stands last.
    last: Option<Column>,
    errors_at: u16,
    /// Positions of the annotations of a copy that came back as an original: they give way to the new ones.
    stale: Vec<u32>,
}

impl Layout {
    fn of(header: &HeaderRow) -> Result<Self, FileError> {
        let mut columns = [None; Column::COUNT];
        let mut stale = Vec::new();
        let mut width = 0;
        for cell in &header.cells {
            if cell.column.is_none() && is_annotation(&cell.text) {
                stale.push(cell.position);
                continue;
            }
            width = width.max(cell.position + 1);
            if let Some(column) = cell.column {
                columns[column as usize] = u16::try_from(cell.position).ok();
            }
        }
        let last = Column::ALL
            .into_iter()
            .filter(|column| columns[*column as usize].is_some())
            .max_by_key(|column| columns[*column as usize]);
        // Two columns more must fit.
        match u16::try_from(width) {
            Ok(errors_at) if width + 2 <= MAX_COLUMNS => {
                Ok(Self { header_row: header.row, columns, last, errors_at, stale })
            }
            _ => Err(FileError::TooManyColumns { max: MAX_COLUMNS - 2 }),
        }
    }

    const fn warnings_at(&self) -> u16 {
        self.errors_at + 1
    }

    /// Where a cell outside the template goes, if it is copied.
    fn other(&self, position: u32) -> Option<u16> {
        let position = u16::try_from(position).ok().filter(|position| *position < self.errors_at)?;
        (!self.stale.contains(&u32::from(position))).then_some(position)
    }
}

/// How a cell is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Plain,
    WarningRow,
    WarningCell,
    ErrorRow,
    ErrorCell,
}

/// What a cell holds, as far as its format must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Any,
    Code,
    Date,
}

/// The formats by mark, each for any value, for codes and for dates.
struct Formats {
    by_mark: [[Format; 3]; 5],
    note: Format,
}

impl Formats {
    fn new() -> Self {
        let strong = |fill: u32, font: u32| {
            let border = FormatBorder::Medium;
            let format = Format::new().set_background_color(Color::RGB(fill)).set_bold();
            format.set_font_color(Color::RGB(font)).set_border(border).set_border_color(Color::RGB(font))
        };
        let by_mark = [
            Format::new(),
            Format::new().set_background_color(Color::RGB(0xFF_F8_E1)),
            strong(0xFF_E0_82, 0x7A_4F_00),
            Format::new().set_background_color(Color::RGB(0xFD_EC_EA)),
            strong(0xF4_A6_A0, 0x9C_00_06),
        ];
        let by_mark = by_mark.map(|format| {
            // What is typed into a code's cell stays text too, zeros and all.
            let code = format.clone().set_num_format("@");
            let date = format.clone().set_num_format("yyyy-mm-dd hh:mm:ss");
            [format, code, date]
        });
        Self { by_mark, note: Format::new().set_text_wrap().set_align(FormatAlign::Top) }
    }

    /// None where Excel's own will do.
    fn of(&self, mark: Mark, content: Content) -> Option<&Format> {
        (mark != Mark::Plain || content != Content::Any).then(|| self.get(mark, content))
    }

    fn get(&self, mark: Mark, content: Content) -> &Format {
        &self.by_mark[mark as usize][content as usize]
    }
}

/// The notes, taken row by row.
struct Notes<I> {
    notes: I,
    /// The first that belongs to a later row.
    ahead: Option<Note>,
}

impl<I: Iterator<Item = anyhow::Result<Note>>> Notes<I> {
    fn of_row(&mut self, row: u32) -> Result<Vec<Note>, AnnotateError> {
        let mut about = Vec::new();
        loop {
            let next = match self.ahead.take() {
                Some(note) => Some(note),
                None => self.notes.next().transpose().map_err(AnnotateError::Notes)?,
            };
            match next {
                Some(note) if note.row < row => {}
                Some(note) if note.row == row => about.push(note),
                later_or_none => {
                    self.ahead = later_or_none;
                    return Ok(about);
                }
            }
        }
    }
}

fn write_header(sheet: &mut Worksheet, header: &HeaderRow, layout: &Layout) -> Result<(), XlsxError> {
    let bold = Format::new().set_bold().set_border_bottom(FormatBorder::Thin);
    let row = layout.header_row - 1;
    for cell in &header.cells {
        let position = match cell.column {
            Some(column) => layout.columns[column as usize],
            None => layout.other(cell.position),
        };
        let Some(position) = position else { continue };
        sheet
            .set_column_width(position, cell.column.map_or(OTHER_WIDTH, |column| guide::of(column).width))?;
        sheet.write_string_with_format(row, position, fit(&cell.text), &bold)?;
    }
    for (position, name) in [(layout.errors_at, ERRORS), (layout.warnings_at(), WARNINGS)] {
        sheet.set_column_width(position, NOTES_WIDTH)?;
        sheet.write_string_with_format(row, position, name, &bold)?;
    }
    if layout.header_row <= MAX_FROZEN_ROWS {
        sheet.set_freeze_panes(layout.header_row, 0)?;
    }
    Ok(())
}

fn write_row(
    sheet: &mut Worksheet,
    row: &RawRow,
    notes: &[Note],
    layout: &Layout,
    formats: &Formats,
) -> Result<(), XlsxError> {
    let at = row.number - 1;
    let has = |kind| notes.iter().any(|note| note.kind == kind);
    let has_error = has(NoteKind::Error) || row.surplus.is_some();
    let row_mark = match (has_error, has(NoteKind::Warning)) {
        (true, _) => Mark::ErrorRow,
        (false, true) => Mark::WarningRow,
        (false, false) => Mark::Plain,
    };
    for column in Column::ALL {
        let Some(position) = layout.columns[column as usize] else { continue };
        let is_about = |kind| notes.iter().any(|note| note.kind == kind && note.column == Some(column));
        let mark = match (is_about(NoteKind::Error), is_about(NoteKind::Warning)) {
            (true, _) => Mark::ErrorCell,
            (false, true) => Mark::WarningCell,
            (false, false) => row_mark,
        };
        if row.surplus.is_some() && layout.last == Some(column) {
            let format = formats.get(Mark::ErrorCell, Content::Any);
            sheet.write_string_with_format(at, position, SURPLUS, format)?;
            continue;
        }
        let content = if is_code(column) { Content::Code } else { Content::Any };
        match row.cell(column) {
            RawCell::DateTime(text) => write_date(sheet, (at, position), text, mark, UNKNOWN_DATE, formats)?,
            cell => write_cell(sheet, (at, position), cell, formats.of(mark, content))?,
        }
    }
    for (position, cell) in &row.others {
        let Some(position) = layout.other(*position) else { continue };
        match cell {
            RawCell::DateTime(text) => write_date(sheet, (at, position), text, row_mark, text, formats)?,
            cell => write_cell(sheet, (at, position), cell, formats.of(row_mark, Content::Any))?,
        }
    }
    for (kind, position) in [(NoteKind::Error, layout.errors_at), (NoteKind::Warning, layout.warnings_at())] {
        let of_kind = notes.iter().filter(|note| note.kind == kind).map(|note| note.message.clone());
        let surplus = if kind == NoteKind::Error { surplus_values(row, layout) } else { None };
        let messages: Vec<String> = of_kind.chain(surplus).collect();
        if !messages.is_empty() {
            sheet.write_string_with_format(at, position, fit(&messages.join("; ")), &formats.note)?;
        }
    }
    Ok(())
}

/// What a row has from its last column on, where it has more values than columns.
fn surplus_values(row: &RawRow, layout: &Layout) -> Option<String> {
    let (surplus, last) = (row.surplus.as_ref()?, layout.last?);
    let beyond = row.others.iter().filter(|(position, _)| *position as usize >= surplus.columns);
    let values = std::iter::once(row.cell(last)).chain(beyond.map(|(_, cell)| cell));
    let values: Vec<String> = values.map(|cell| format!("«{}»", cell.display())).collect();
    Some(format!("desde {} la fila tiene {}", last.name(), values.join(", ")))
}

fn is_code(column: Column) -> bool {
    matches!(column, Column::Id | Column::Codigo)
}

/// A date stays one, so that nothing reads it as a text. `unknown` stands for one that Excel doesn't know.
fn write_date(
    sheet: &mut Worksheet,
    (row, column): (u32, u16),
    text: &str,
    mark: Mark,
    unknown: &str,
    formats: &Formats,
) -> Result<(), XlsxError> {
    match ExcelDateTime::parse_from_str(text) {
        Ok(date) => sheet.write_datetime_with_format(row, column, &date, formats.get(mark, Content::Date))?,
        Err(_) => {
            sheet.write_string_with_format(row, column, fit(unknown), formats.get(mark, Content::Any))?
        }
    };
    Ok(())
}

/// A text as it must stand in a cell to be read as itself: see [`RawCell::from_file`].
fn quoted(text: &str) -> Cow<'_, str> {
    let is_read_otherwise = text.starts_with(['=', '\''])
        && !matches!(RawCell::from_file(text, usize::MAX), RawCell::Text(read) if read == text);
    if is_read_otherwise { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

/// Texts go into string cells, which are no formulas whatever they begin with.
fn write_cell(
    sheet: &mut Worksheet,
    (row, column): (u32, u16),
    cell: &RawCell,
    format: Option<&Format>,
) -> Result<(), XlsxError> {
    match (cell, format) {
        (RawCell::Empty, None) => return Ok(()),
        (RawCell::Empty, Some(format)) => sheet.write_blank(row, column, format)?,
        (RawCell::Number(number), None) => sheet.write_number(row, column, *number)?,
        (RawCell::Number(number), Some(format)) => {
            sheet.write_number_with_format(row, column, *number, format)?
        }
        (RawCell::Bool(truth), None) => sheet.write_boolean(row, column, *truth)?,
        (RawCell::Bool(truth), Some(format)) => {
            sheet.write_boolean_with_format(row, column, *truth, format)?
        }
        (text, None) => sheet.write_string(row, column, fit(&quoted(&text.display())))?,
        (text, Some(format)) => {
            sheet.write_string_with_format(row, column, fit(&quoted(&text.display())), format)?
        }
    };
    Ok(())
}

/// The start of a text that Excel takes in a cell.
fn fit(text: &str) -> Cow<'_, str> {
    // Bytes are never fewer than UTF-16 units.
    if text.len() <= MAX_TEXT {
        return Cow::Borrowed(text);
    }
    let mut units = 0;
    let fits = |character: &char| {
        units += character.len_utf16();
        units <= MAX_TEXT
    };
    Cow::Owned(text.chars().take_while(fits).collect())
}
