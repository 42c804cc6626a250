//! Cells, as `getQueryResults` writes them.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Field {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// `NULLABLE` where it is missing.
    #[serde(default)]
    pub mode: Option<String>,
    /// Of a record.
    #[serde(default)]
    pub fields: Vec<Self>,
}

/// A cell that is not as its column says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct Drift {
    pub column: String,
    pub problem: String,
}

/// A cell's value. Numbers that are not integers stay text, exact as they came.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    Null,
    /// Of the page itself, unless an escape had to be resolved.
    Text(Cow<'a, str>),
    Int(i64),
    Bool(bool),
    Time(DateTime<Utc>),
    /// Several values, or a record.
    Nested(Value),
}

impl From<Cell<'_>> for Value {
    /// Moments are RFC 3339 in UTC, to the microsecond.
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Text(text) => text.into_owned().into(),
            Cell::Int(number) => number.into(),
            Cell::Bool(yes) => yes.into(),
            Cell::Time(at) => spelled(at).into(),
            Cell::Nested(value) => value,
        }
    }
}

impl Serialize for Cell<'_> {
    /// As the cell's [`Value`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Cell::Null => serializer.serialize_unit(),
            Cell::Text(text) => serializer.serialize_str(text),
            Cell::Int(number) => serializer.serialize_i64(*number),
            Cell::Bool(yes) => serializer.serialize_bool(*yes),
            Cell::Time(at) => serializer.serialize_str(&spelled(*at)),
            Cell::Nested(value) => value.serialize(serializer),
        }
    }
}

impl From<Value> for Cell<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(yes) => Self::Bool(yes),
            Value::String(text) => Self::Text(text.into()),
            other => other.as_i64().map_or(Self::Nested(other), Self::Int),
        }
    }
}

fn spelled(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[derive(Deserialize)]
struct RawRow<'a> {
    #[serde(borrow, default)]
    f: Vec<RawCell<'a>>,
}

#[derive(Deserialize)]
struct RawCell<'a> {
    /// None: null.
    #[serde(borrow, default)]
    v: Option<&'a RawValue>,
}

/// The cells of a row, in the order of its columns.
///
/// # Errors
/// Not as many cells as columns, or a cell of another form.
pub fn cells<'a>(fields: &[Field], row: &'a RawValue) -> Result<Vec<Cell<'a>>, Drift> {
    let row: RawRow<'a> = serde_json::from_str(row.get())
        .map_err(|error| Drift { column: String::new(), problem: error.to_string() })?;
    counted(fields, row.f.len())?;
    fields
        .iter()
        .zip(row.f)
        .map(|(field, cell)| cell.v.map_or(Ok(empty(field)), |v| read(field, v)))
        .collect()
}

/// A row by its columns' names, in lower case: BigQuery's are the same in any.
///
/// # Errors
/// As [`cells`].
pub fn decode(fields: &[Field], row: &RawValue) -> Result<Map<String, Value>, Drift> {
    let cells = cells(fields, row)?;
    Ok(fields.iter().zip(cells).map(|(field, cell)| (field.name.to_lowercase(), cell.into())).collect())
}

fn counted(fields: &[Field], cells: usize) -> Result<(), Drift> {
    if cells == fields.len() {
        return Ok(());
    }
    let problem = format!("a row has {cells} cells, its schema {} columns", fields.len());
    Err(Drift { column: String::new(), problem })
}

/// What null is in a column: no values and null are one thing to BigQuery.
fn empty<'a>(field: &Field) -> Cell<'a> {
    if field.mode.as_deref() == Some("REPEATED") {
        Cell::Nested(Value::Array(Vec::new()))
    } else {
        Cell::Null
    }
}

fn read<'a>(field: &Field, cell: &'a RawValue) -> Result<Cell<'a>, Drift> {
    if field.mode.as_deref() == Some("REPEATED") || matches!(field.kind.as_str(), "RECORD" | "STRUCT") {
        return parsed(cell).and_then(|cell| value(field, &cell)).map(Cell::Nested);
    }
    let text = match cell.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => return Err(odd(field, &parsed(cell)?)),
        Some(text) if !text.contains('\\') => Cow::Borrowed(text),
        Some(_) => match parsed(cell)? {
            Value::String(text) => Cow::Owned(text),
            other => return Err(odd(field, &other)),
        },
    };
    scalar(field, text)
}

fn parsed(cell: &RawValue) -> Result<Value, Drift> {
    serde_json::from_str(cell.get())
        .map_err(|error| Drift { column: String::new(), problem: error.to_string() })
}

fn scalar<'a>(field: &Field, text: Cow<'a, str>) -> Result<Cell<'a>, Drift> {
    let cell = match field.kind.as_str() {
        "INTEGER" | "INT64" => text.parse::<i64>().ok().map(Cell::Int),
        "BOOLEAN" | "BOOL" => text.to_lowercase().parse::<bool>().ok().map(Cell::Bool),
        "TIMESTAMP" => timestamp(&text).map(Cell::Time),
        _ => return Ok(Cell::Text(text)),
    };
    cell.ok_or_else(|| odd(field, &Value::from(text.into_owned())))
}

fn record(fields: &[Field], row: &Value) -> Result<Map<String, Value>, Drift> {
    let none = Vec::new();
    let cells = row["f"].as_array().unwrap_or(&none);
    counted(fields, cells.len())?;
    let read = |(field, cell): (&Field, &Value)| Ok((field.name.to_lowercase(), value(field, &cell["v"])?));
    fields.iter().zip(cells).map(read).collect()
}

fn value(field: &Field, cell: &Value) -> Result<Value, Drift> {
    if field.mode.as_deref() == Some("REPEATED") {
        let Some(cells) = cell.as_array() else {
            return if cell.is_null() { Ok(empty(field).into()) } else { Err(odd(field, cell)) };
        };
        return cells.iter().map(|cell| single(field, &cell["v"])).collect();
    }
    single(field, cell)
}

fn single(field: &Field, cell: &Value) -> Result<Value, Drift> {
    if cell.is_null() {
        return Ok(Value::Null);
    }
    if matches!(field.kind.as_str(), "RECORD" | "STRUCT") {
        return record(&field.fields, cell).map(Value::Object);
    }
    let text = cell.as_str().ok_or_else(|| odd(field, cell))?;
    scalar(field, text.into()).map(Value::from)
}

/// Microseconds since 1970 as an integer (what we ask for), or seconds as a float, which always has a point or an
/// exponent.
fn timestamp(text: &str) -> Option<DateTime<Utc>> {
    let micros = if text.contains(['.', 'e', 'E']) {
        let seconds = Decimal::from_scientific(text).or_else(|_| text.parse::<Decimal>()).ok()?;
        i64::try_from(seconds.checked_mul(Decimal::from(1_000_000))?.round()).ok()?
    } else {
        text.parse().ok()?
    };
    DateTime::from_timestamp_micros(micros)
}

fn odd(field: &Field, cell: &Value) -> Drift {
    let cell: String = cell.to_string().chars().take(100).collect();
    Drift { column: field.name.clone(), problem: format!("{cell} is not of type {}", field.kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Vec<Field> {
        serde_json::from_value(value).expect("fields")
    }

    fn raw(row: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(row).expect("JSON")
    }

    #[test]
    fn every_type_of_cell_is_read() {
        let fields = fields(json!([
            { "name": "Texto", "type": "STRING" }, { "name": "n", "type": "INTEGER" },
            { "name": "monto", "type": "NUMERIC" }, { "name": "si", "type": "BOOLEAN" },
            { "name": "dia", "type": "DATE" }, { "name": "nada", "type": "STRING" },
            { "name": "lista", "type": "INTEGER", "mode": "REPEATED" },
            { "name": "registro", "type": "RECORD", "fields": [
                { "name": "A", "type": "STRING" }, { "name": "b", "type": "FLOAT", "mode": "REPEATED" } ] },
            { "name": "registros", "type": "RECORD", "mode": "REPEATED", "fields": [{ "name": "x", "type": "INTEGER" }] },
            { "name": "vacia", "type": "STRING", "mode": "REPEATED" },
        ]));
        let row = json!({ "f": [
            { "v": "á \"\\n" }, { "v": "-9007199254740993" }, { "v": "99999999999999.9999" }, { "v": "true" },
            { "v": "2025-06-01" }, { "v": null }, { "v": [{ "v": "1" }, { "v": "2" }] },
            { "v": { "f": [{ "v": "a" }, { "v": [{ "v": "1.5" }] }] } },
            { "v": [{ "v": { "f": [{ "v": "7" }] } }] }, { "v": [] },
        ] });
        let expected = json!({
            "texto": "á \"\\n", "n": -9_007_199_254_740_993_i64, "monto": "99999999999999.9999", "si": true,
            "dia": "2025-06-01", "nada": null, "lista": [1, 2], "registro": { "a": "a", "b": ["1.5"] },
            "registros": [{ "x": 7 }], "vacia": [],
        });
        assert_eq!(Value::Object(decode(&fields, &raw(&row)).expect("a row")), expected);
    }

    #[test]
    fn both_forms_of_a_timestamp_are_one_moment() {
        for (text, expected) in [
            ("1749000000000000", "2025-06-04T01:20:00.000000Z"),
            ("1.749E9", "2025-06-04T01:20:00.000000Z"),
            ("1749000000.0", "2025-06-04T01:20:00.000000Z"),
            ("1749000000.123456", "2025-06-04T01:20:00.123456Z"),
            ("1749000000123456", "2025-06-04T01:20:00.123456Z"),
            ("-1.5", "1969-12-31T23:59:58.500000Z"),
        ] {
            assert_eq!(timestamp(text).map(spelled).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_moment_out_of_all_bounds_is_none() {
        for text in ["7.9E27", "1e40", "92233720368547758080", "NaN"] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_as_the_schema_says_is_named() {
        let fields = fields(json!([{ "name": "n", "type": "INTEGER" }]));
        let drift = decode(&fields, &raw(&json!({ "f": [{ "v": "x" }] }))).expect_err("no number");
        assert_eq!(drift.column, "n");
        assert!(decode(&fields, &raw(&json!({ "f": [] }))).is_err(), "a cell is missing");
        assert!(decode(&fields, &raw(&json!({ "f": [{ "v": 5 }] }))).is_err(), "cells are text");
    }
}
