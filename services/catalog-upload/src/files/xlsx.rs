//! Workbooks, by calamine's cell reader. Never by its ranges, which allocate the declared extent.
//!
//! What bounds memory: calamine holds all shared strings of the workbook, whatever the sheet, at some 50
//! bytes each besides their text. 1,000,000 rows with 3,000,000 unique strings take 182 MB at their peak
//! (VmHWM). The guard refuses a workbook whose strings
//! could exceed `Limits::max_shared_strings_bytes`, by an estimate that is on the high side (313 MB for that
//! workbook). All else is streamed, a cell at a time, each cell at most `Limits::max_token_bytes`.

use std::{fs::File, io::BufReader, path::Path};

use calamine::{CellErrorType, DataRef, Reader as _, SheetType, SheetVisible, Xlsx, XlsxError};

use super::{
    FileError, Keep, Limits, Others, RawCell, RawRow,
    feed::{Feed, Opened},
    gate::{Gate, Gated},
    guard,
    header::{Header, HeaderSearch, plain},
    mend,
};
use crate::domain::NOT_COMPUTED;

type Cells<'a, 'gate> = calamine::XlsxCellReader<'a, BufReader<Gated<'gate>>>;

/// Sheets that a message names.
const NAMED_SHEETS: usize = 20;

/// Sheets of a workbook.
const MAX_SHEETS: usize = 255;

/// A sheet is read twice at most: for a header without rows, and to be named where another one is read. A workbook whose
/// list names one part as many sheets has it read again for each: it ends where it has been read more often than this,
/// beside so many bytes for each sheet's beginning.
const PASSES: u64 = 3;
const BYTES_A_SHEET: u64 = 64 * 1024;

/// What is read of a workbook.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub keep: Keep,
    /// The sheet of this name; none: the first that has rows.
    pub sheet: Option<&'a str>,
    pub others: Others,
}

/// Guards the workbook, finds the sheet, and reads its rows into the feed. `scratch`: a folder for a file that is gone
/// with the reading.
pub(super) fn read(
    file: File,
    scratch: &Path,
    limits: &Limits,
    Wanted { keep, sheet: wanted, others }: Wanted<'_>,
    feed: &mut Feed,
) -> Result<(), FileError> {
    let gate = guard::close(file, limits)?;
    let open = |file| Xlsx::new(BufReader::new(file)).map_err(error);
    let (guarded, opened) = guard::inspect(&gate, limits, open)?;
    let mended;
    let (source, mut workbook) = match mend::mended(&gate, &guarded, scratch)? {
        Some(file) => {
            mended = Gate::new(file, []);
            (&mended, open(mended.reader())?)
        }
        None => (&gate, opened?),
    };
    let mut sheets: Vec<_> = workbook.sheets_metadata().to_vec();
    sheets.retain(|sheet| sheet.typ == SheetType::WorkSheet);
    // What people see comes first.
    sheets.sort_by_key(|sheet| sheet.visible != SheetVisible::Visible);
    let sheets: Vec<String> = sheets.into_iter().map(|sheet| sheet.name).collect();
    if sheets.len() > MAX_SHEETS {
        return Err(FileError::hostile(format!("más de {MAX_SHEETS} hojas")));
    }
    let budget = source.read() + PASSES * source.size()? + BYTES_A_SHEET * sheets.len() as u64;
    let is_read_over = || source.read() > budget;
    let hint = guarded.parts.values().map(|part| part.rows).max();

    let mut search = HeaderSearch::default();
    let mut has_header = false;
    let of_choice: Vec<&String> =
        sheets.iter().filter(|name| wanted.is_none_or(|one| same_name(one, name))).collect();
    if let (Some(wanted), []) = (wanted, &*of_choice) {
        let sheets = sheets.iter().take(NAMED_SHEETS).map(|name| plain(name)).collect();
        return Err(FileError::NoSuchSheet { wanted: wanted.to_owned(), sheets });
    }
    for name in of_choice {
        if is_read_over() {
            return Err(FileError::hostile("las mismas celdas en muchas hojas"));
        }
        search.next_sheet();
        let mut cells = match workbook.worksheet_cells_reader(name) {
            Ok(cells) => cells,
            Err(XlsxError::NotAWorksheet(_)) => continue,
            Err(other) => return Err(error(other)),
        };
        if let Some(found) = find_header(&mut cells, limits, &mut search, feed)? {
            let hint = hint.map(|rows| rows.saturating_sub(1));
            let header = &found.header;
            let texts = found.cells.iter().map(|(position, text)| (*position, text.as_str()));
            feed.opened(Opened::new(hint, Some(name.clone()), keep.header(header, found.row, texts), header));
            read_rows(&mut cells, header, found.next, limits, keep, feed)?;
            // A sheet of a header alone, such as a template's, hides none of those behind it.
            drop(cells);
            if feed.has_rows() && others == Others::PassedOver {
                return Ok(());
            }
            if feed.has_rows() {
                for other in sheets.iter().filter(|other| *other != name) {
                    feed.go_on()?;
                    if is_read_over() {
                        break;
                    }
                    let Ok(mut cells) = workbook.worksheet_cells_reader(other) else { continue };
                    // What is wrong with a sheet that is not read harms nobody.
                    if matches!(has_products(&mut cells, limits, feed), Ok(true)) && !feed.omit(other) {
                        break;
                    }
                }
                return Ok(());
            }
            has_header = true;
        }
    }
    // Of nothing but headers the feed says so.
    if has_header { Ok(()) } else { Err(search.failure()) }
}

/// As Excel compares names of sheets.
fn same_name(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

/// Whether a sheet has a header and a value below it.
fn has_products(cells: &mut Cells<'_, '_>, limits: &Limits, feed: &Feed) -> Result<bool, FileError> {
    let found = find_header(cells, limits, &mut HeaderSearch::default(), feed)?;
    let Some(found) = found else { return Ok(false) };
    let mut cell = found.next;
    while let Some((_, column, content)) = cell {
        if found.header.at(column).is_some() && !convert(content.get_value(), limits).is_empty() {
            return Ok(true);
        }
        feed.go_on()?;
        cell = next(cells, limits)?;
    }
    Ok(false)
}

/// A cell with its row and column, both from 0.
type Placed<'a> = (u32, u32, calamine::Cell<DataRef<'a>>);

fn next<'a>(cells: &mut Cells<'a, '_>, limits: &Limits) -> Result<Option<Placed<'a>>, FileError> {
    let Some(cell) = cells.next_cell().map_err(error)? else { return Ok(None) };
    let (row, column) = cell.get_position();
    if row >= limits.max_rows {
        return Err(FileError::TooManyRows { max: limits.max_rows });
    }
    if column >= limits.max_columns {
        return Err(FileError::TooManyColumns { max: limits.max_columns });
    }
    Ok(Some((row, column, cell)))
}

/// The header, and where reading goes on.
struct FoundHeader<'a> {
    header: Header,
    /// Its row's number.
    row: u32,
    cells: Vec<(u32, String)>,
    /// The first cell after it.
    next: Option<Placed<'a>>,
}

/// Reads up to the header.
fn find_header<'a>(
    cells: &mut Cells<'a, '_>,
    limits: &Limits,
    search: &mut HeaderSearch,
    feed: &Feed,
) -> Result<Option<FoundHeader<'a>>, FileError> {
    let mut row: Vec<(u32, String)> = Vec::new();
    let mut has_value = false;
    let mut number = 0;
    loop {
        feed.go_on()?;
        let next = next(cells, limits)?;
        let changes = next.as_ref().is_none_or(|(at, ..)| *at != number);
        if changes && row.is_empty() && std::mem::take(&mut has_value) {
            search.pass();
        } else if changes && !row.is_empty() {
            has_value = false;
            let header = search.offer(row.iter().map(|(column, text)| (*column, text.as_str())));
            if let Some(header) = header {
                return Ok(Some(FoundHeader { header, row: number + 1, cells: row, next }));
            }
            row.clear();
        }
        let Some((at, column, cell)) = next else { return Ok(None) };
        if search.exhausted() {
            return Ok(None);
        }
        number = at;
        match convert(cell.get_value(), limits) {
            RawCell::Text(text) => row.push((column, text)),
            RawCell::Empty => {}
            _ => has_value = true,
        }
    }
}

fn read_rows<'a>(
    cells: &mut Cells<'a, '_>,
    header: &Header,
    first: Option<Placed<'a>>,
    limits: &Limits,
    keep: Keep,
    feed: &mut Feed,
) -> Result<(), FileError> {
    let Some(mut cell) = first else { return Ok(()) };
    let mut row = RawRow::new(cell.0 + 1);
    // Cells of a row are bounded one by one; those beyond the template's also by what they take together.
    let mut kept_bytes = 0;
    loop {
        let (at, position, ref content) = cell;
        if at + 1 != row.number {
            kept_bytes = 0;
            if !feed.push(std::mem::replace(&mut row, RawRow::new(at + 1)))? {
                return Ok(());
            }
        }
        if let Some(column) = header.at(position) {
            row.set(column, convert(content.get_value(), limits));
        } else if keep == Keep::Everything && position < header.width() {
            let cell = convert(content.get_value(), limits);
            kept_bytes += cell.text_bytes();
            if !cell.is_empty() && kept_bytes <= limits.max_token_bytes {
                row.others.push((position, cell));
            }
        }
        match next(cells, limits)? {
            Some(following) => cell = following,
            None => break,
        }
    }
    feed.push(row)?;
    Ok(())
}

fn convert(value: &DataRef<'_>, limits: &Limits) -> RawCell {
    match value {
        DataRef::Empty => RawCell::Empty,
        DataRef::SharedString(text) => RawCell::from_file(text, limits.max_cell_chars),
        DataRef::String(text) => RawCell::from_file(text, limits.max_cell_chars),
        DataRef::Float(number) => RawCell::Number(*number),
        DataRef::Int(number) => RawCell::Number(*number as f64),
        DataRef::Bool(truth) => RawCell::Bool(*truth),
        DataRef::DateTime(moment) => {
            let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
            RawCell::DateTime(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"))
        }
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => RawCell::DateTime(text.clone()),
        DataRef::Error(error) => RawCell::Error(error_name(error)),
    }
}

const fn error_name(error: &CellErrorType) -> &'static str {
    match error {
        CellErrorType::Div0 => "#DIV/0!",
        CellErrorType::NA => "#N/A",
        CellErrorType::Name => "#NAME?",
        // What `mend` makes of it; a file's own is a text by then.
        CellErrorType::Null => NOT_COMPUTED,
        CellErrorType::Num => "#NUM!",
        CellErrorType::Ref => "#REF!",
        CellErrorType::Value => "#VALUE!",
        _ => "#ERROR!",
    }
}

fn error(error: XlsxError) -> FileError {
    match error {
        XlsxError::Password => FileError::OldOrProtected,
        XlsxError::Zip(error) => guard::zip_error(error),
        XlsxError::FileNotFound(_) | XlsxError::RelationshipNotFound => FileError::NotXlsx,
        other => FileError::unreadable(&other, "una hoja no se puede interpretar"),
    }
}
