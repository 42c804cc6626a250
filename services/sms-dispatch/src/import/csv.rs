//! A CSV file of contacts: any separator, any order of columns, UTF-8 or what Excel saves where it isn't told to.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use csv::{ByteRecord, Position, Reader, ReaderBuilder};
use encoding_rs::WINDOWS_1252;
use serde::{Deserialize, Serialize};

use super::raw::{Raw, RawRow};

/// The longest row, in bytes. A quote that nobody closed makes one of all that follows.
const LONGEST_ROW: usize = 1 << 20;

/// Which column of the file holds which field: field → the column's name. What is not named here is found by its own
/// name, as the database `numeros` or a contact has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mapping(pub BTreeMap<String, String>);

/// The fields, and the names of columns that hold them.
const FIELDS: [(&str, &[&str]); 10] = [
    ("phone", &["phone", "phone_e164", "numero", "telefono", "celular"]),
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
    columns: [Option<usize>; 10],
    first: Place,
    limit: Option<u64>,
}

impl Csv {
    /// Reads the first line, and finds the columns.
    ///
    /// # Errors
    /// A file that can't be read, a mapping that names what is not there, no column of phones.
    pub fn open(path: &Path, limit: Option<u64>, mapping: &Mapping) -> anyhow::Result<Self> {
        let said = || format!("{} can't be read as CSV", path.display());
        let unknown: Vec<_> =
            mapping.0.keys().filter(|field| !FIELDS.iter().any(|(name, _)| name == field)).collect();
        let known: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
        ensure!(unknown.is_empty(), "the mapping names {unknown:?}, expected some of {known:?}");

        let separator = separator(path).with_context(said)?;
        let mut reader = open(path, separator).with_context(said)?;
        let mut head = ByteRecord::new();
        let some = reader.read_byte_record(&mut head).with_context(said)?;
        ensure!(some, "{} is empty, expected a line that names the columns", path.display());
        decode(&mut head, None);
        let names: Vec<String> = head
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim_start_matches('\u{feff}').trim().to_lowercase())
            .collect();
        let find = |wanted: &str| names.iter().position(|name| plain(name) == plain(wanted));
        let mut columns = [None; 10];
        for (column, (field, usual)) in columns.iter_mut().zip(FIELDS) {
            *column = match mapping.0.get(field) {
                None => usual.iter().find_map(|name| find(name)),
                Some(name) => match find(name) {
                    None => bail!("{} has no column {name:?} for {field}, only {names:?}", path.display()),
                    found => found,
                },
            };
        }
        ensure!(
            columns[0].is_some(),
            "{} has no column of phones among {names:?}: expected one of {:?}, or a mapping",
            path.display(),
            FIELDS[0].1
        );
        let place = reader.position();
        let first = Place { byte: place.byte(), line: place.line(), rows: 0 };
        Ok(Self { path: path.to_path_buf(), separator, columns, first, limit })
    }

    /// Where the first row is.
    pub fn first_place(&self) -> Place {
        self.first.clone()
    }

    /// Reads at most `most` rows from a place; gives where the next one is, none at the end.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn read(
        &self,
        from: &Place,
        most: usize,
        each: &mut impl FnMut(&RawRow<'_>) -> bool,
    ) -> anyhow::Result<Option<Place>> {
        let said = || format!("reading {} from line {}", self.path.display(), from.line);
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
            decode(&mut record, self.columns[0]);
            let value = |index: usize| {
                let bytes = self.columns.get(index).copied().flatten().and_then(|column| record.get(column));
                bytes.filter(|bytes| !bytes.is_empty()).map_or(Raw::Null, Raw::Text)
            };
            let raw = RawRow {
                source_id: i64::try_from(rows)?,
                phone: value(0),
                phone_original: value(1),
                full_name: value(2),
                address: value(3),
                neighborhood: value(4),
                municipality: value(5),
                state_code: value(6),
                city: value(7),
                is_valid: value(8),
                migrated_at: value(9),
            };
            if !each(&raw) {
                return Ok(None);
            }
        }
        let at = reader.position();
        Ok(Some(Place { byte: at.byte(), line: at.line(), rows }))
    }
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
    let accent = |letter: char| match letter {
        'á' => 'a',
        'é' => 'e',
        'í' => 'i',
        'ó' => 'o',
        'ú' | 'ü' => 'u',
        'ñ' => 'n',
        other => other,
    };
    name.to_lowercase().chars().map(accent).collect()
}

/// A file of which one row reads no more than it may.
struct Bounded {
    file: BufReader<File>,
    left: usize,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            let said =
                format!("a row is longer than {LONGEST_ROW} bytes: is there a quote that is not closed?");
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
    ensure!(!wide, "it is UTF-16; save it as CSV UTF-8");
    let file = Bounded { file, left: LONGEST_ROW };
    // A row with a field more or less is a row still: its phone decides.
    Ok(ReaderBuilder::new().delimiter(separator).has_headers(false).flexible(true).from_reader(file))
}

/// The separator that the first line has most of.
fn separator(path: &Path) -> anyhow::Result<u8> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?).take(1 << 16).read_until(b'\n', &mut line)?;
    let count = |separator: u8| line.iter().filter(|byte| **byte == separator).count();
    Ok([b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|separator| count(*separator)).unwrap_or(b','))
}
