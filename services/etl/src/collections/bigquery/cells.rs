//! Cells, as `getQueryResults` writes them.

use chrono::{DateTime, SecondsFormat};
use rust_decimal::Decimal;
use serde::Deserialize;
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

/// A row by its columns' names, in lower case: BigQuery's are the same in any. Numbers that are not integers stay text,
/// exact as they came; moments are RFC 3339 in UTC, to the microsecond.
///
/// # Errors
/// Not as many cells as columns, or a cell of another form.
pub fn decode(fields: &[Field], row: &RawValue) -> Result<Map<String, Value>, Drift> {
    let row: Value = serde_json::from_str(row.get())
        .map_err(|error| Drift { column: String::new(), problem: error.to_string() })?;
    record(fields, &row)
}

fn record(fields: &[Field], row: &Value) -> Result<Map<String, Value>, Drift> {
    let none = Vec::new();
    let cells = row["f"].as_array().unwrap_or(&none);
    if cells.len() != fields.len() {
        let problem = format!("a row has {} cells, its schema {} columns", cells.len(), fields.len());
        return Err(Drift { column: String::new(), problem });
    }
    let read = |(field, cell): (&Field, &Value)| Ok((field.name.to_lowercase(), value(field, &cell["v"])?));
    fields.iter().zip(cells).map(read).collect()
}

fn value(field: &Field, cell: &Value) -> Result<Value, Drift> {
    if field.mode.as_deref() == Some("REPEATED") {
        let Some(cells) = cell.as_array() else {
            // No values and null are one thing to BigQuery.
            return if cell.is_null() { Ok(Value::Array(Vec::new())) } else { Err(odd(field, cell)) };
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
    match field.kind.as_str() {
        "INTEGER" | "INT64" => text.parse::<i64>().map(Value::from).map_err(|_| odd(field, cell)),
        "BOOLEAN" | "BOOL" => {
            text.to_lowercase().parse::<bool>().map(Value::from).map_err(|_| odd(field, cell))
        }
        "TIMESTAMP" => timestamp(text).map(Value::from).ok_or_else(|| odd(field, cell)),
        _ => Ok(text.into()),
    }
}

/// Microseconds since 1970 as an integer (what we ask for), or seconds as a float, which always has a point or an
/// exponent.
fn timestamp(text: &str) -> Option<String> {
    let micros = if text.contains(['.', 'e', 'E']) {
        let seconds = Decimal::from_scientific(text).or_else(|_| text.parse::<Decimal>()).ok()?;
        i64::try_from((seconds * Decimal::from(1_000_000)).round()).ok()?
    } else {
        text.parse().ok()?
    };
    Some(DateTime::from_timestamp_micros(micros)?.to_rfc3339_opts(SecondsFormat::Micros, true))
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
            { "v": "á" }, { "v": "-9007199254740993" }, { "v": "99999999999999.9999" }, { "v": "true" },
            { "v": "2025-06-01" }, { "v": null }, { "v": [{ "v": "1" }, { "v": "2" }] },
            { "v": { "f": [{ "v": "a" }, { "v": [{ "v": "1.5" }] }] } },
            { "v": [{ "v": { "f": [{ "v": "7" }] } }] }, { "v": [] },
        ] });
        let expected = json!({
            "texto": "á", "n": -9_007_199_254_740_993_i64, "monto": "99999999999999.9999", "si": true,
            "dia": "2025-06-01", "nada": null, "lista": [1, 2], "registro": { "a": "a", "b": ["1.5"] },
            "registros": [{ "x": 7 }], "vacia": [],
        });
        assert_eq!(Value::Object(record(&fields, &row).expect("a row")), expected);
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
            assert_eq!(timestamp(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_as_the_schema_says_is_named() {
        let fields = fields(json!([{ "name": "n", "type": "INTEGER" }]));
        let drift = record(&fields, &json!({ "f": [{ "v": "x" }] })).expect_err("no number");
        assert_eq!(drift.column, "n");
        assert!(record(&fields, &json!({ "f": [] })).is_err(), "a cell is missing");
        assert!(record(&fields, &json!({ "f": [{ "v": 5 }] })).is_err(), "cells are text");
    }
}
