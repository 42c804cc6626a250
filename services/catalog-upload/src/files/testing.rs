//! Reading files that are made by code.

use std::io::Write;

use anyhow::{Context, Result};

pub use super::made::*;
use super::{FileError, FileKind, HeaderRow, Keep, Limits, RawRow, Reader, open_keeping};
use crate::domain::Column;

pub const XLSX: FileKind = FileKind::Xlsx;

/// A workbook of so many good rows.
pub fn template(rows: u32) -> Result<Vec<u8>> {
    xlsx(|sheet| {
        write_header(sheet, 0)?;
        (1..=rows).try_for_each(|row| write_row(sheet, row))
    })
}

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
