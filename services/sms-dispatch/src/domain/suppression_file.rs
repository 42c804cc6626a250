//! A CSV file of phones that must not be written to, read from front to back.

use chrono::{DateTime, Utc};
use csv::{ByteRecord, ReaderBuilder};

use super::{
    Phone, normalise,
    suppression::{Cause, parse_effect},
};

/// Names of the columns.
const PHONE: &[&str] = &["phone", "phone_e164", "telefono", "teléfono", "numero", "número", "celular"];
const REASON: &[&str] = &["reason", "motivo"];
const EFFECT: &[&str] = &["effective_at", "vigencia", "fecha", "fecha_vigencia"];

/// A row that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub phone: Phone,
    pub cause: Cause,
    pub effective_at: DateTime<Utc>,
}

/// A row that doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of the file, from 1.
    pub line: u64,
    pub value: String,
    pub code: &'static str,
    /// For a person.
    pub message: &'static str,
}

/// Where which value stands.
#[derive(Clone, Copy, Debug)]
struct Columns {
    phone: usize,
    reason: Option<usize>,
    effect: Option<usize>,
}

/// Reads a file's lines as they come.
#[derive(Debug)]
pub struct Listing {
    cause: Cause,
    effective_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    separator: u8,
    columns: Option<Columns>,
    lines: u64,
}

impl Listing {
    /// A file whose rows have this cause and date unless they name others. Its first line may name its columns; without
    /// names the first column is the phone.
    pub fn new(cause: Cause, effective_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        Self { cause, effective_at, now, separator: b',', columns: None, lines: 0 }
    }

    /// Reads the next lines, which must be whole ones.
    pub fn read(&mut self, lines: &[u8]) -> Vec<Result<Listed, Refused>> {
        let lines = if self.lines == 0 { self.begin(lines) } else { lines };
        let reader = ReaderBuilder::new()
            .delimiter(self.separator)
            .has_headers(false)
            .flexible(true)
            // A quote is part of a value: one that never ends would swallow the rest of the file.
            .quoting(false)
            .from_reader(lines);
        let mut rows = Vec::new();
        for record in reader.into_byte_records() {
            // Bytes in memory can be read.
            let Ok(record) = record else { continue };
            let line = self.lines + record.position().map_or(1, csv::Position::line);
            if self.columns.is_none() {
                let named = columns(&record);
                self.columns = Some(named.unwrap_or(Columns { phone: 0, reason: None, effect: None }));
                if named.is_none() {
                    rows.push(self.row(&record, line));
                }
                continue;
            }
            if record.len() > 1 || record.iter().any(|value| !value.trim_ascii().is_empty()) {
                rows.push(self.row(&record, line));
            }
        }
        self.lines += memchr::memchr_iter(b'\n', lines).count() as u64;
        rows
    }

    /// Finds the separator in the first line, and takes its byte order mark off.
    fn begin<'a>(&mut self, lines: &'a [u8]) -> &'a [u8] {
        let lines = lines.strip_prefix(b"\xef\xbb\xbf").unwrap_or(lines);
        let first = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let found = [b';', b'\t', b'|'].into_iter().find(|separator| first.contains(separator));
        self.separator = found.unwrap_or(b',');
        lines
    }

    fn row(&self, record: &ByteRecord, line: u64) -> Result<Listed, Refused> {
        let columns = self.columns.unwrap_or(Columns { phone: 0, reason: None, effect: None });
        let bytes = |column: usize| plain(record.get(column).unwrap_or_default());
        let text = |column: Option<usize>| {
            let text = String::from_utf8_lossy(bytes(column?)).into_owned();
            (!text.is_empty()).then_some(text)
        };
        let refused = |value: String, code, message| Refused {
            line,
            value: value.chars().take(64).collect(),
            code,
            message,
        };
        let phone = normalise(bytes(columns.phone)).map_err(|reason| {
            let value = String::from_utf8_lossy(bytes(columns.phone)).into_owned();
            refused(value, reason.code(), reason.message())
        })?;
        let cause = match text(columns.reason) {
            None => self.cause,
            Some(name) => Cause::parse(&name).ok_or_else(|| {
                refused(name, "reason_unknown", "Motivo desconocido: se espera opt_out, repep o manual")
            })?,
        };
        let effective_at = match text(columns.effect) {
            None => self.effective_at.unwrap_or_else(|| cause.default_effect(self.now)),
            Some(day) => parse_effect(&day).ok_or_else(|| {
                refused(day, "date_invalid", "Fecha inválida: se espera AAAA-MM-DD o DD/MM/AAAA")
            })?,
        };
        Ok(Listed { phone: phone.phone, cause, effective_at })
    }
}

/// Without blanks and quotes around it.
fn plain(value: &[u8]) -> &[u8] {
    let value = value.trim_ascii();
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// The columns that a first line names, if it does.
fn columns(record: &ByteRecord) -> Option<Columns> {
    let names: Vec<String> =
        record.iter().map(|name| String::from_utf8_lossy(plain(name)).to_lowercase()).collect();
    let find = |known: &[&str]| names.iter().position(|name| known.contains(&name.as_str()));
    Some(Columns { phone: find(PHONE)?, reason: find(REASON), effect: find(EFFECT) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        parse_effect("2026-01-31").expect("a day")
    }

    fn phones(rows: &[Result<Listed, Refused>]) -> Vec<String> {
        rows.iter().flatten().map(|listed| listed.phone.to_string()).collect()
    }

    #[test]
    fn a_bare_list_of_phones_has_the_cause_it_was_given() {
        let mut listing = Listing::new(Cause::Repep, None, now());
        let rows = listing.read(b"6121004768\n\n044 612 100 4769\r\n");
        assert_eq!(phones(&rows), ["+526121004768", "+526121004769"]);
        assert_eq!(rows.len(), 2, "an empty line is none");
        let repep = rows[0].as_ref().expect("a row");
        assert_eq!(
            (repep.cause, repep.effective_at),
            (Cause::Repep, parse_effect("2026-03-02").expect("a day"))
        );
    }

    #[test]
    fn columns_are_found_by_name_and_wrong_rows_told_by_line() {
        let mut listing = Listing::new(Cause::Manual, None, now());
        let head = "\u{feff}Motivo;Vigencia;Teléfono\nrepep;15/02/2026;\"6121004768\"\n;;6121004769\n";
        let rows = listing.read(head.as_bytes());
        let first = rows[0].as_ref().expect("a row");
        assert_eq!(
            (first.cause, first.effective_at),
            (Cause::Repep, parse_effect("2026-02-15").expect("a day"))
        );
        assert_eq!(rows[1].as_ref().map(|row| (row.cause, row.effective_at)), Ok((Cause::Manual, now())));
        let rows = listing.read("spam;;6121004768\n;ayer;6121004768\n;;abc\n;;\n".as_bytes());
        let told: Vec<_> =
            rows.iter().filter_map(|row| row.as_ref().err()).map(|row| (row.line, row.code)).collect();
        assert_eq!(
            told,
            [(4, "reason_unknown"), (5, "date_invalid"), (6, "phone_letters"), (7, "phone_empty")]
        );
    }
}
