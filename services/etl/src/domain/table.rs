//! Tables that are synced, as data: what the merge, the sweep and the migrations need to know of one.

use std::borrow::Cow;

use chassis::idempotency::hex;
use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sea_orm::Value;
use sha2::{Digest as _, Sha256};

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
    let mut bytes = Vec::with_capacity(512);
    for value in values {
        match text(value) {
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
    values.iter().map(|value| text(value).unwrap_or_default()).collect::<Vec<_>>().join("|")
}

/// A value's one spelling; none for null.
pub fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::BigInt(value) => value.map(|value| value.to_string().into()),
        Value::Bool(value) => value.map(|value| if value { "true" } else { "false" }.into()),
        Value::String(value) => value.as_deref().map(Cow::Borrowed),
        Value::Decimal(value) => value.as_ref().map(|value| value.to_string().into()),
        Value::ChronoDate(value) => value.as_ref().map(|value| value.to_string().into()),
        Value::ChronoDateTimeUtc(value) => {
            value.as_ref().map(|value| value.timestamp_micros().to_string().into())
        }
        other => Some(format!("{other:?}").into()),
    }
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
