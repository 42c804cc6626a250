//! Tables that are synced, as data: what the merge, the sweep and the migrations need to know of one.

use std::fmt::Write as _;

use chassis::idempotency::hex;
use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sea_orm::Value;
use sha2::{Digest as _, Sha256};

use super::money;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 64 bits.
    Int,
    /// Characters at most.
    Text(u32),
    /// Any length.
    LongText,
    /// `DECIMAL(18,4)`.
    Amount,
    Date,
    /// To the microsecond, UTC.
    Time,
    Flag,
    /// A JSON document, as text that the database checks.
    Json,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub nullable: bool,
}

impl Column {
    /// One that always has a value.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: false }
    }

    /// One that may be null.
    pub const fn nullable(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, nullable: true }
    }
}

/// A table. Besides its columns it has those of [`OWN`].
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    /// The key's columns come first.
    pub columns: &'static [Column],
    /// How many of them are the key. There is no other unique key: MySQL's upsert would fire on it.
    pub key: usize,
    /// What else is looked up, a list of columns an index.
    pub indexes: &'static [&'static [&'static str]],
}

/// What the merge keeps of each row: its fingerprint, the version of the source's that it shows, the run that wrote it
/// last and when, and since when the source does not have it any more.
pub const OWN: [Column; 5] = [
    Column::new("huella", Kind::Text(32)),
    Column::new("version", Kind::Int),
    Column::new("corrida", Kind::Text(36)),
    Column::new("actualizado_en", Kind::Time),
    Column::nullable("eliminado_en", Kind::Time),
];

impl Table {
    /// The key's columns.
    pub fn key_columns(&self) -> &'static [Column] {
        &self.columns[..self.key]
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A row of a table, as the source has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// In the order of the table's columns.
    pub values: Vec<Value>,
    /// What came later has a higher one: microseconds since 1970 of the question it answers, or of the source's own
    /// cursor.
    pub version: i64,
    /// Of all values. It is made with the row, beside the commit of the rows before.
    pub fingerprint: String,
}

impl Row {
    /// A row of these values.
    pub fn new(values: Vec<Value>, version: i64) -> Self {
        let fingerprint = fingerprint(&values);
        Self { values, version, fingerprint }
    }

    /// The key, as one text.
    pub fn key(&self, table: &Table) -> String {
        key_text(&self.values[..table.key])
    }
}

/// 128 bits of SHA-256 over all values, as hexadecimal digits.
fn fingerprint(values: &[Value]) -> String {
    // At once: the hash takes long over small pieces.
    let (mut bytes, mut buffer) = (Vec::with_capacity(512), String::with_capacity(32));
    for value in values {
        match spell(value, &mut buffer) {
            None => bytes.push(0),
            Some(text) => {
                bytes.push(1);
                bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    hex(&Sha256::digest(bytes.as_slice())[..16])
}

/// The values of a key as one text.
pub fn key_text(values: &[Value]) -> String {
    // Nearly all keys.
    if let [Value::BigInt(Some(number))] = values {
        return number.to_string();
    }
    let (mut key, mut buffer) = (String::new(), String::new());
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            key.push('|');
        }
        key.push_str(spell(value, &mut buffer).unwrap_or_default());
    }
    key
}

/// A value's one spelling, in `buffer` where it is not a text already; none for null. Nothing is allocated for each value:
/// a sync has millions of them.
pub fn spell<'a>(value: &'a Value, buffer: &'a mut String) -> Option<&'a str> {
    buffer.clear();
    let written = match value {
        Value::String(value) => return value.as_deref(),
        Value::Bool(value) => return value.map(|value| if value { "true" } else { "false" }),
        Value::BigInt(value) => write!(buffer, "{}", (*value)?),
        Value::Decimal(value) => money::write((*value)?, buffer),
        Value::ChronoDate(value) => write!(buffer, "{}", (*value)?),
        Value::ChronoDateTimeUtc(value) => write!(buffer, "{}", (*value)?.timestamp_micros()),
        other => write!(buffer, "{other:?}"),
    };
    written.expect("a String takes all that is written to it");
    Some(buffer.as_str())
}

/// A value of a column, or null.
pub trait Cell {
    /// As the driver takes it.
    fn cell(self) -> Value;
}

impl Cell for Option<i64> {
    fn cell(self) -> Value {
        Value::BigInt(self)
    }
}

impl Cell for i64 {
    fn cell(self) -> Value {
        Value::BigInt(Some(self))
    }
}

impl Cell for Option<String> {
    fn cell(self) -> Value {
        self.into()
    }
}

impl Cell for String {
    fn cell(self) -> Value {
        self.into()
    }
}

impl Cell for Option<Decimal> {
    fn cell(self) -> Value {
        self.into()
    }
}

impl Cell for Decimal {
    fn cell(self) -> Value {
        self.into()
    }
}

impl Cell for NaiveDate {
    fn cell(self) -> Value {
        self.into()
    }
}

impl Cell for Option<NaiveDate> {
    fn cell(self) -> Value {
        self.into()
    }
}

impl Cell for Option<DateTime<Utc>> {
    fn cell(self) -> Value {
        self.into()
    }
}

impl Cell for DateTime<Utc> {
    fn cell(self) -> Value {
        self.into()
    }
}

impl Cell for bool {
    fn cell(self) -> Value {
        Value::Bool(Some(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that a release before has written would all be written again.
    #[test]
    fn a_fingerprint_stays_what_it_was() {
        let time = DateTime::from_timestamp(1_700_000_000, 5_000).expect("a time");
        let values = vec![
            7_i64.cell(),
            Option::<i64>::None.cell(),
            true.cell(),
            "ñ \"".to_owned().cell(),
            String::new().cell(),
            Option::<String>::None.cell(),
            Decimal::new(-123_400, 4).cell(),
            Decimal::new(5, 0).cell(),
            NaiveDate::from_ymd_opt(2026, 1, 31).cell(),
            time.cell(),
        ];
        assert_eq!(Row::new(values, 1).fingerprint, "a540d51c97e12e69272be9ff6cdd5492");
    }

    #[test]
    fn a_key_is_its_values_with_bars_between_them() {
        assert_eq!(key_text(&[(-7_i64).cell()]), "-7");
        assert_eq!(key_text(&[2_i64.cell(), 9_i64.cell()]), "2|9");
        assert_eq!(key_text(&["a".to_owned().cell(), Option::<i64>::None.cell()]), "a|");
    }
}
