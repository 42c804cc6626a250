//! A CSV file of people: any separator, any order of columns, UTF-8 or what Excel saves where it isn't told to. Every list of
//! people is read here, contacts and suppressions alike: whoever tells a list from another tells its fields.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use csv::{ByteRecord, Position, Reader, ReaderBuilder};
use encoding_rs::WINDOWS_1252;
use serde::{Deserialize, Serialize};
use tabular::without_accent;

use super::raw::{Raw, RawRow};
use crate::domain::{normalise, source::Mapping};

/// The longest row, in bytes. A quote that nobody closed makes one of all that follows.
const LONGEST_ROW: usize = 1 << 20;

/// A field of a list, and the names of columns that hold it.
pub type Field = (&'static str, &'static [&'static str]);

/// Every list's first field.
pub const PHONE: Field = ("phone", &["phone", "phone_e164", "numero", "telefono", "celular"]);

/// Places among the fields of contacts.
pub const FULL_NAME: usize = 2;
pub const STATE: usize = 6;
pub const CITY: usize = 7;
pub const IS_VALID: usize = 8;

/// The fields of contacts.
const FIELDS: [Field; 10] = [
    PHONE,
    ("phone_original", &["phone_original", "campo1_original"]),
    ("full_name", &["full_name", "nombre"]),
    ("address", &["address", "direccion"]),
    ("neighborhood", &["neighborhood", "colonia"]),
    ("municipality", &["municipality", "municipio_cof", "municipio"]),
    ("state_code", &["state_code", "estado_cof", "estado"]),
    ("city", &["city", "ciudad_por_lada", "ciudad"]),
    ("is_valid", &["is_valid", "es_valido"]),
    ("migrated_at", &["migrated_at", "fecha_migracion"]),
];

/// Where a batch begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    byte: u64,
    line: u64,
    /// Rows before it.
    rows: u64,
}

/// An opened CSV file.
#[derive(Clone, Debug)]
pub struct Csv {
    path: PathBuf,
    separator: u8,
    /// Of the list's fields, in their order.
    columns: Vec<Option<usize>>,
    /// As the first line has them, in lower case; none of a list without names.
    names: Vec<String>,
    /// How many columns there are up to the last one with a name; None of a list without names. A value behind them has moved
    /// there, also where each line ends with a separator.
    width: Option<usize>,
    first: Place,
    limit: Option<u64>,
    /// In bytes.
    size: u64,
}

/// One row of a list.
pub struct Values<'a> {
    /// From 1.
    pub row: u64,
    /// Of the file, from 1.
    pub line: u64,
    /// Values stand beyond the last column that has a name: a separator too many has moved all that follow it.
    pub has_surplus: bool,
    record: &'a ByteRecord,
    columns: &'a [Option<usize>],
}

impl<'a> Values<'a> {
    /// What stands in the column of the list's field of this number.
    pub fn get(&self, field: usize) -> Raw<'a> {
        let column = self.columns.get(field).copied().flatten();
        column.map_or(Raw::Null, |column| self.column(column))
    }

    /// What stands in the file's column of this number, whatever it holds.
    pub fn column(&self, column: usize) -> Raw<'a> {
        let bytes = self.record.get(column);
        bytes.filter(|bytes| !bytes.is_empty()).map_or(Raw::Null, Raw::Text)
    }
}

impl Csv {
    /// Reads the first line of a file of contacts, and finds the columns.
    ///
    /// # Errors
    /// A file that can't be read, a mapping that names what is not there, no column of phones; for its user, in Spanish.
    pub fn open(path: &Path, limit: Option<u64>, mapping: &Mapping) -> anyhow::Result<Self> {
        Self::open_list(path, &FIELDS, false, limit, mapping)
    }

    /// As [`Csv::open`], for a list with these fields, of which the first is the phone. A list that may be bare needs no names
    /// where its first line has one phone: that column is the phones'. A first line without any phone names columns, known
    /// or not.
    ///
    /// # Errors
    /// As [`Csv::open`].
    pub fn open_list(
        path: &Path,
        fields: &[Field],
        may_be_bare: bool,
        limit: Option<u64>,
        mapping: &Mapping,
    ) -> anyhow::Result<Self> {
        let said = || "El archivo no se puede leer como CSV";
        let unknown: Vec<_> =
            mapping.0.keys().filter(|field| !fields.iter().any(|(name, _)| name == field)).collect();
        let known: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
        ensure!(unknown.is_empty(), "El mapping nombra {unknown:?}; se espera alguno de {known:?}");

        let size = std::fs::metadata(path).with_context(said)?.len();
        let separator = separator(path).with_context(said)?;
        let mut reader = open(path, separator).with_context(said)?;
        let mut head = ByteRecord::new();
        let some = reader.read_byte_record(&mut head).with_context(said)?;
        ensure!(some, "El archivo está vacío: se espera una línea con los nombres de las columnas");
        decode(&mut head, None);
        if may_be_bare
            && mapping.0.is_empty()
            && let Some(column) = bare(&head)?
        {
            let mut columns = vec![None; fields.len()];
            columns[0] = Some(column);
            let first = Place { byte: 0, line: 1, rows: 0 };
            return Ok(Self {
                path: path.to_path_buf(),
                separator,
                columns,
                names: Vec::new(),
                width: None,
                first,
                limit,
                size,
            });
        }
        let names: Vec<String> = head
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim_start_matches('\u{feff}').trim().to_lowercase())
            .collect();
        let find = |wanted: &str| names.iter().position(|name| plain(name) == plain(wanted));
        let mut columns = Vec::with_capacity(fields.len());
        for (field, usual) in fields {
            columns.push(match mapping.0.get(*field) {
                None => usual.iter().find_map(|name| find(name)),
                Some(name) => match find(name) {
                    None => {
                        bail!("El archivo no tiene la columna {name:?} para {field}, solo {}", shown(&names))
                    }
                    found => found,
                },
            });
        }
        ensure!(
            columns.first().is_some_and(Option::is_some),
            "El archivo no tiene una columna de teléfonos entre {}: se espera una de {:?}, o un mapping",
            shown(&names),
            PHONE.1
        );
        let place = reader.position();
        let first = Place { byte: place.byte(), line: place.line(), rows: 0 };
        let width = names.iter().rposition(|name| !name.is_empty()).map(|last| last + 1);
        Ok(Self { path: path.to_path_buf(), separator, columns, names, width, first, limit, size })
    }

    /// The columns' names, in lower case; none of a list without names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the file has a column for the list's field of this number.
    pub fn has(&self, field: usize) -> bool {
        self.columns.get(field).is_some_and(Option::is_some)
    }

    /// Where the first row is.
    pub fn first_place(&self) -> Place {
        self.first.clone()
    }

    /// Reads at most `most` rows of contacts from a place; gives where the next one is, none at the end.
    ///
    /// # Errors
    /// As [`Csv::read_values`].
    pub fn read(
        &self,
        from: &Place,
        most: usize,
        each: &mut impl FnMut(&RawRow<'_>) -> bool,
    ) -> anyhow::Result<Option<Place>> {
        self.read_values(from, most, &mut |values| {
            each(&RawRow {
                // Files have fewer rows.
                source_id: i64::try_from(values.row).unwrap_or(i64::MAX),
                has_surplus: values.has_surplus,
                phone: values.get(0),
                phone_original: values.get(1),
                full_name: values.get(2),
                address: values.get(3),
                neighborhood: values.get(4),
                municipality: values.get(5),
                state_code: values.get(6),
                city: values.get(7),
                is_valid: values.get(8),
                migrated_at: values.get(9),
            })
        })
    }

    /// Reads at most `most` rows from a place; gives where the next one is, none at the end.
    ///
    /// # Errors
    /// A file that can't be read, a quote that nobody closed.
    pub fn read_values(
        &self,
        from: &Place,
        most: usize,
        each: &mut impl FnMut(&Values<'_>) -> bool,
    ) -> anyhow::Result<Option<Place>> {
        let said = || format!("El archivo no se puede leer desde la línea {}", from.line);
        let mut reader = open(&self.path, self.separator).with_context(said)?;
        let mut position = Position::new();
        position.set_byte(from.byte).set_line(from.line).set_record(from.rows + 1);
        reader.seek(position).with_context(said)?;
        let mut record = ByteRecord::new();
        let mut rows = from.rows;
        for _ in 0..most {
            reader.get_mut().left = LONGEST_ROW;
            if self.limit.is_some_and(|limit| rows >= limit)
                || !reader.read_byte_record(&mut record).with_context(said)?
            {
                return Ok(None);
            }
            rows += 1;
            let (byte, line) = record.position().map_or((0, 0), |place| (place.byte(), place.line()));
            if reader.position().byte() >= self.size && memchr::memchr(b'\n', record.as_slice()).is_some() {
                self.ensure_closed(byte, line)?;
            }
            decode(&mut record, self.columns.first().copied().flatten());
            let has_surplus = self
                .width
                .is_some_and(|width| record.iter().skip(width).any(|value| !value.trim_ascii().is_empty()));
            if !each(&Values { row: rows, line, has_surplus, record: &record, columns: &self.columns }) {
                return Ok(None);
            }
        }
        let at = reader.position();
        Ok(Some(Place { byte: at.byte(), line: at.line(), rows }))
    }

    /// Fails where the last row, which has lines in a field, has an odd number of quotes: one that nobody closed has taken all
    /// rows after it for one value.
    fn ensure_closed(&self, byte: u64, line: u64) -> anyhow::Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(byte))?;
        let mut rest = Vec::new();
        file.take(LONGEST_ROW as u64).read_to_end(&mut rest)?;
        let quotes = memchr::memchr_iter(b'"', &rest).count();
        ensure!(quotes.is_multiple_of(2), "La fila de la línea {line} tiene comillas sin cerrar");
        Ok(())
    }
}

/// The names of a first line, for a message that is logged: where they are no names but somebody's data, only how many.
fn shown(names: &[String]) -> String {
    let is_data = |name: &String| name.chars().filter(char::is_ascii_digit).count() > 3;
    match names.iter().any(is_data) {
        true => format!("las {} de la primera línea, que no parece tener nombres", names.len()),
        false => format!("{names:?}"),
    }
}

/// The column of phones of a first line that names none: the one that has a phone. None where no column has.
fn bare(head: &ByteRecord) -> anyhow::Result<Option<usize>> {
    let phones: Vec<_> = head
        .iter()
        .enumerate()
        .filter(|(_, value)| normalise(value).is_ok())
        .map(|(column, _)| column)
        .collect();
    ensure!(
        phones.len() < 2,
        "La primera línea no nombra columnas y tiene {} teléfonos: agregue los nombres de las columnas",
        phones.len()
    );
    Ok(phones.first().copied())
}

/// Makes UTF-8 of what is none: in Windows-1252 nearly every text with an accent is none. The column of phones stays as it is,
/// and its value is rejected for it.
fn decode(record: &mut ByteRecord, phones: Option<usize>) {
    if std::str::from_utf8(record.as_slice()).is_ok() {
        return;
    }
    let decoded = record.iter().enumerate().map(|(column, bytes)| {
        if phones == Some(column) || std::str::from_utf8(bytes).is_ok() {
            return Cow::Borrowed(bytes);
        }
        Cow::Owned(WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned().into_bytes())
    });
    *record = decoded.collect();
}

/// A column's name without case and accents.
fn plain(name: &str) -> String {
    name.to_lowercase().chars().map(without_accent).collect()
}

/// A file of which one row reads no more than it may.
struct Bounded {
    file: BufReader<File>,
    left: usize,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            let said = format!("una fila pasa de {LONGEST_ROW} bytes: ¿hay comillas sin cerrar?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, said));
        }
        let most = buffer.len().min(self.left);
        let read = self.file.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn open(path: &Path, separator: u8) -> anyhow::Result<Reader<Bounded>> {
    let mut file = BufReader::with_capacity(1 << 18, File::open(path)?);
    let wide = matches!(file.fill_buf()?, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
    ensure!(!wide, "está en UTF-16; guárdelo como «CSV UTF-8»");
    let file = Bounded { file, left: LONGEST_ROW };
    // A row with a field less is a row still; one with more is told by Values::has_surplus.
    Ok(ReaderBuilder::new().delimiter(separator).has_headers(false).flexible(true).from_reader(file))
}

/// The separator that the first line has most of.
fn separator(path: &Path) -> anyhow::Result<u8> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?).take(1 << 16).read_until(b'\n', &mut line)?;
    let count = |separator: u8| line.iter().filter(|byte| **byte == separator).count();
    Ok([b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|separator| count(*separator)).unwrap_or(b','))
}
