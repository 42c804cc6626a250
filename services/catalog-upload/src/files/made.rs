//! Files made by code, for tests of every level: this one, the service's against its servers, and the
//! fuzzer's first inputs. It names nothing of the reader.

use std::io::{Cursor, Write};

use anyhow::Result;
use rust_xlsxwriter::{Workbook, Worksheet, XlsxError};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

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

/// A workbook whose only sheet `fill` fills.
pub fn xlsx(fill: impl FnOnce(&mut Worksheet) -> Result<(), XlsxError>) -> Result<Vec<u8>> {
    let mut workbook = Workbook::new();
    fill(workbook.add_worksheet())?;
    Ok(workbook.save_to_buffer()?)
}

pub fn write_header(sheet: &mut Worksheet, row: u32) -> Result<(), XlsxError> {
    for (position, column) in Column::ALL.into_iter().enumerate() {
        sheet.write_string(row, position as u16, column.name())?;
    }
    Ok(())
}

/// The good row under an id, which is its code too.
pub fn good(id: &str) -> [&str; Column::COUNT] {
    let mut cells = GOOD;
    cells[0] = id;
    cells[2] = id;
    cells
}

/// Writes the good row as texts, with its own id and code.
pub fn write_row(sheet: &mut Worksheet, row: u32) -> Result<(), XlsxError> {
    write_row_as(sheet, row, &format!("P{row}"))?;
    sheet.write_string(row, 2, format!("C{row}"))?;
    Ok(())
}

/// Writes the good row as texts under an id, which is its code too.
pub fn write_row_as(sheet: &mut Worksheet, row: u32, id: &str) -> Result<(), XlsxError> {
    for (position, value) in good(id).into_iter().enumerate() {
        sheet.write_string(row, position as u16, value)?;
    }
    Ok(())
}

/// A workbook of hand-written XML: one sheet, and the table of strings if there is one.
pub fn raw_xlsx(sheet: &str, strings: Option<&str>) -> Result<Vec<u8>> {
    let parts = raw_parts(sheet, strings);
    zip_of(&parts.iter().map(|(name, text)| (*name, text.as_bytes())).collect::<Vec<_>>())
}

/// The parts of such a workbook, by name.
pub fn raw_parts(sheet: &str, strings: Option<&str>) -> Vec<(&'static str, String)> {
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
    parts
}

pub fn zip_of(parts: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    zip_by(CompressionMethod::Deflated, parts)
}

pub fn zip_by(method: CompressionMethod, parts: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
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
    good(id).join(separator) + "\n"
}
