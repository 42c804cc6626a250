//! Files made by code.

use std::io::{Cursor, Write};

use anyhow::{Context, Result};
use rust_xlsxwriter::{Workbook, Worksheet};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{FileError, FileKind, HeaderRow, Keep, Limits, RawRow, Reader, open_keeping};
use crate::domain::Column;

/// The cells of a good row.
pub const GOOD: [&str; Column::COUNT] = [
    "PROD001",
    "Amoxicilina 500 mg",
    "AMX-500",
    "ANTIBIOTICS",
    "Caja x 21",
    "12500.50",
    "INVIMA 2024M-0001",
    "Entre 15 y 30 °C",
    "3",
    "20",
    "8",
    "sí",
    "no",
];

/// Everything that reading gives.
#[derive(Debug)]
pub struct Read {
    pub rows: Vec<RawRow>,
    pub sheet: Option<String>,
    pub ignored: Vec<String>,
    pub header: Option<HeaderRow>,
    pub total: Option<u64>,
}

pub fn open_bytes(bytes: &[u8], kind: FileKind, limits: &Limits) -> Result<Result<Reader, FileError>> {
    open_bytes_keeping(bytes, kind, limits, Keep::Template)
}

fn open_bytes_keeping(
    bytes: &[u8],
    kind: FileKind,
    limits: &Limits,
    keep: Keep,
) -> Result<Result<Reader, FileError>> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(bytes)?;
    Ok(open_keeping(file.path(), kind, limits, keep))
}

/// Reads a file to its end.
pub fn read_with(bytes: &[u8], kind: FileKind, limits: &Limits) -> Result<Result<Read, FileError>> {
    read_keeping(bytes, kind, limits, Keep::Template)
}

pub fn read_keeping(
    bytes: &[u8],
    kind: FileKind,
    limits: &Limits,
    keep: Keep,
) -> Result<Result<Read, FileError>> {
    let mut reader = match open_bytes_keeping(bytes, kind, limits, keep)? {
        Ok(reader) => reader,
        Err(error) => return Ok(Err(error)),
    };
    let mut rows = Vec::new();
    loop {
        match reader.next_batch(7) {
            Ok(Some(batch)) => rows.extend(batch),
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(Read {
        rows,
        sheet: reader.sheet().map(str::to_owned),
        ignored: reader.ignored_columns().to_vec(),
        header: reader.header().cloned(),
        total: reader.total_hint(),
    }))
}

pub fn read(bytes: &[u8], kind: FileKind) -> Result<Read> {
    Ok(read_with(bytes, kind, &Limits::default())??)
}

pub fn failure(bytes: &[u8], kind: FileKind) -> Result<FileError> {
    read_with(bytes, kind, &Limits::default())?.err().context("the file was read, though it must not be")
}

/// A column's texts, as a person would read them.
pub fn column(read: &Read, column: Column) -> Vec<String> {
    read.rows.iter().map(|row| row.cell(column).display().into_owned()).collect()
}

pub fn numbers(read: &Read) -> Vec<u32> {
    read.rows.iter().map(|row| row.number).collect()
}

/// A workbook whose only sheet `fill` fills.
pub fn xlsx(fill: impl FnOnce(&mut Worksheet) -> Result<(), rust_xlsxwriter::XlsxError>) -> Result<Vec<u8>> {
    let mut workbook = Workbook::new();
    fill(workbook.add_worksheet())?;
    Ok(workbook.save_to_buffer()?)
}

pub fn write_header(sheet: &mut Worksheet, row: u32) -> Result<(), rust_xlsxwriter::XlsxError> {
    for (position, column) in Column::ALL.into_iter().enumerate() {
        sheet.write_string(row, position as u16, column.name())?;
    }
    Ok(())
}

/// Writes the good row as texts, with its own id and code.
pub fn write_row(sheet: &mut Worksheet, row: u32) -> Result<(), rust_xlsxwriter::XlsxError> {
    for (position, value) in GOOD.into_iter().enumerate() {
        sheet.write_string(row, position as u16, value)?;
    }
    sheet.write_string(row, 0, format!("P{row}"))?;
    sheet.write_string(row, 2, format!("C{row}"))?;
    Ok(())
}

/// A workbook of hand-written XML: one sheet, and the table of strings if there is one.
pub fn raw_xlsx(sheet: &str, strings: Option<&str>) -> Result<Vec<u8>> {
    let mut parts = vec![
        (
            "[Content_Types].xml",
            r#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>"#.to_owned(),
        ),
        (
            "_rels/.rels",
            r#"<Relationships><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#.to_owned(),
        ),
        (
            "xl/workbook.xml",
            r#"<workbook xmlns:r="r"><sheets><sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>"#
                .to_owned(),
        ),
        (
            "xl/_rels/workbook.xml.rels",
            r#"<Relationships><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#.to_owned(),
        ),
        ("xl/worksheets/sheet1.xml", sheet.to_owned()),
    ];
    if let Some(strings) = strings {
        parts.push(("xl/sharedStrings.xml", strings.to_owned()));
    }
    zip_of(&parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect::<Vec<_>>())
}

pub fn zip_of(parts: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in parts {
        writer.start_file(*name, options)?;
        writer.write_all(bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// A row element with inline texts in the template's order.
pub fn raw_row(number: u32, cells: &[&str]) -> String {
    let mut row = format!(r#"<row r="{number}">"#);
    for (position, cell) in cells.iter().enumerate() {
        let letter = char::from(b'A' + position as u8);
        row.push_str(&format!(r#"<c r="{letter}{number}" t="inlineStr"><is><t>{cell}</t></is></c>"#));
    }
    row + "</row>"
}

pub fn raw_header() -> String {
    raw_row(1, &Column::ALL.map(Column::name))
}

pub fn raw_sheet(rows: &[String]) -> String {
    format!("<worksheet><sheetData>{}</sheetData></worksheet>", rows.concat())
}

/// The template as CSV with a separator.
pub fn csv_header(separator: &str) -> String {
    Column::ALL.map(Column::name).join(separator) + "\n"
}

pub fn csv_row(separator: &str, id: &str) -> String {
    let mut cells = GOOD;
    cells[0] = id;
    cells[2] = id;
    cells.join(separator) + "\n"
}
