//! Comma separated values as programs and people save them.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use ::csv::{ByteRecord, ReaderBuilder};

use super::{
    FileError, Keep, Limits, RawCell, RawRow,
    encoding::{Budget, Strays, Text, Utf8Lines, survey},
    feed::{Feed, Opened},
    header::{Header, HeaderSearch},
    trim,
};
use crate::domain::{HeaderName, Surplus};

const SEPARATORS: [u8; 4] = [b';', b',', b'\t', b'|'];
/// Bytes that are looked at for the separator, as UTF-8.
const SAMPLE: usize = 64 * 1024;

/// Reads all records into the feed.
pub(super) fn read(mut file: File, limits: &Limits, keep: Keep, feed: &mut Feed) -> Result<(), FileError> {
    let mut magic = [0; 4];
    let known = file.read(&mut magic)?;
    if &magic[..known] == b"PK\x03\x04" || magic[..known] == [0xd0, 0xcf, 0x11, 0xe0] {
        return Err(FileError::NotCsv);
    }
    file.seek(SeekFrom::Start(0))?;
    let survey = survey(&mut file)?;

    let mut sample = Vec::with_capacity(SAMPLE);
    Utf8Lines::new(file.try_clone()?, survey.text, Budget::new(usize::MAX))
        .take(SAMPLE as u64)
        .read_to_end(&mut sample)?;
    file.seek(SeekFrom::Start(0))?;
    let dialect = Dialect::sniff(&sample);

    let budget = Budget::new(limits.max_token_bytes);
    let mut lines = Utf8Lines::new(file, survey.text, budget.clone());
    // The line `sep=;` is for the program that opens the file; rows are counted after it.
    io::copy(&mut lines.by_ref().take(dialect.skip as u64), &mut io::sink())?;
    let strays = (survey.text == Text::Utf8WithStrays).then(|| lines.strays());
    let mut records = Records {
        reader: builder(dialect.separator).from_reader(lines),
        budget,
        strays,
        skipped: dialect.skip as u64,
        newlines: 0,
        number: 0,
    };

    let mut record = ByteRecord::new();
    let mut search = HeaderSearch::default();
    let header = loop {
        if search.exhausted() || !records.next(&mut record, limits)? {
            return Err(search.failure());
        }
        if record.iter().all(|field| field.trim_ascii().is_empty()) {
            continue;
        }
        if let Some(header) = search.offer(texts(&record)) {
            break header;
        }
    };
    let hint = Some(survey.lines.saturating_sub(u64::from(records.number) - 1));
    let kept = keep.header(&header, records.number, texts(&record));
    feed.opened(Opened::new(hint, None, kept, &header));

    // Up to the last one with a name. What stands behind it has moved there, also where each line ends with a separator.
    let columns = header.width() as usize;
    while records.next(&mut record, limits)? {
        let mut row = row(&record, records.number, &header, limits, keep);
        if record.len() > columns {
            row.surplus = surplus(&record, columns, dialect.separator);
            if keep == Keep::Everything && row.surplus.is_some() {
                let values = texts(&record).skip(columns);
                row.others.extend(values.map(|(at, text)| (at, RawCell::text(text, limits.max_cell_chars))));
            }
        }
        row.mixed_encoding = records.has_strays();
        if !feed.push(row)? {
            break;
        }
    }
    Ok(())
}

/// A record that has a value beyond the header; empty ones say nothing.
fn surplus(record: &ByteRecord, columns: usize, separator: u8) -> Option<Box<Surplus>> {
    let has_value = |(_, text): &(u32, &str)| !trim(text).is_empty();
    let (last, _) = texts(record).skip(columns).filter(has_value).last()?;
    Some(Box::new(Surplus { values: last as usize + 1, columns, separator: char::from(separator) }))
}

/// The fields with their positions. They are always UTF-8: the decoder wrote it, and separators are ASCII.
fn texts(record: &ByteRecord) -> impl Iterator<Item = (u32, &str)> {
    (0..).zip(record.iter().map(|field| str::from_utf8(field).unwrap_or_default()))
}

fn row(record: &ByteRecord, number: u32, header: &Header, limits: &Limits, keep: Keep) -> RawRow {
    let mut row = RawRow::new(number);
    let others = if keep == Keep::Everything { header.width() } else { 0 };
    for (position, text) in texts(record) {
        if let Some(column) = header.at(position) {
            row.set(column, RawCell::from_file(text, limits.max_cell_chars));
        } else if position < others {
            let cell = RawCell::from_file(text, limits.max_cell_chars);
            if !cell.is_empty() {
                row.others.push((position, cell));
            }
        }
    }
    row
}

fn builder(separator: u8) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(separator).has_headers(false).flexible(true);
    builder
}

/// The records with their physical numbers: a blank line is one, a line end inside quotes is none.
struct Records {
    reader: ::csv::Reader<Utf8Lines>,
    budget: Budget,
    /// None where there can be none.
    strays: Option<Strays>,
    /// Bytes before the first record.
    skipped: u64,
    /// Line ends inside fields so far.
    newlines: u64,
    number: u32,
}

impl Records {
    /// Whether the last record has bytes that are not in the file's encoding.
    fn has_strays(&self) -> bool {
        let end = self.skipped + self.reader.position().byte();
        self.strays.as_ref().is_some_and(|strays| strays.take_before(end))
    }

    fn next(&mut self, record: &mut ByteRecord, limits: &Limits) -> Result<bool, FileError> {
        self.budget.renew();
        let next_row = self.number.saturating_add(1);
        let found = self.reader.read_byte_record(record).map_err(|error| {
            if self.budget.exhausted() {
                return FileError::CellTooLarge { row: Some(next_row) };
            }
            match error.into_kind() {
                ::csv::ErrorKind::Io(error) => FileError::Io(error),
                other => FileError::unreadable(&format!("{other:?}"), "un registro no se puede interpretar"),
            }
        })?;
        if !found {
            return Ok(false);
        }
        let inside: usize = record.iter().map(|field| memchr::memchr_iter(b'\n', field).count()).sum();
        self.newlines += inside as u64;
        // Every record ends with a line end, which the reader has counted from 1.
        let number = self.reader.position().line() - 1 - self.newlines;
        if number > u64::from(limits.max_rows) {
            return Err(FileError::TooManyRows { max: limits.max_rows });
        }
        if record.len() > limits.max_columns as usize {
            return Err(FileError::TooManyColumns { max: limits.max_columns });
        }
        let number = number as u32;
        // The quote that was never closed has swallowed the record's own line end with all that follow.
        if number <= self.number {
            return Err(FileError::CellTooLarge { row: Some(next_row) });
        }
        self.number = number;
        Ok(true)
    }
}

/// How a file separates its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dialect {
    separator: u8,
    /// Bytes before the first record.
    skip: usize,
}

impl Dialect {
    /// `sep=` if the first line says so, else the separator under which most columns of the template are
    /// found in one of the first records.
    fn sniff(sample: &[u8]) -> Self {
        let line_end = memchr::memchr(b'\n', sample).unwrap_or(sample.len());
        let line = sample[..line_end].trim_ascii();
        let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
        let declared = line.get(..4).filter(|start| start.eq_ignore_ascii_case(b"sep=")).map(|_| &line[4..]);
        // The tabulator counts as space, and is trimmed.
        let declared = match declared {
            Some([]) => Some(b'\t'),
            Some([separator]) if separator.is_ascii() => Some(*separator),
            _ => None,
        };
        if let Some(separator) = declared {
            return Self { separator, skip: (line_end + 1).min(sample.len()) };
        }
        let mut best = (0, SEPARATORS[0]);
        for separator in SEPARATORS {
            let known = known_columns(sample, separator);
            if known > best.0 {
                best = (known, separator);
            }
        }
        Self { separator: best.1, skip: 0 }
    }
}

/// The most columns of the template in any of the first records.
fn known_columns(sample: &[u8], separator: u8) -> usize {
    let records = builder(separator).from_reader(sample).into_byte_records().map_while(Result::ok);
    let known = |record: ByteRecord| {
        let columns = record.iter().filter_map(|field| HeaderName::of(str::from_utf8(field).ok()?).any());
        columns.count()
    };
    records.take(20).map(known).max().unwrap_or(0)
}
