//! Rows of BigQuery's as a raw table has them.

use std::cmp::Ordering;

use chassis::idempotency::hex;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest as _, Sha256};

use super::{
    bigquery::{Cell, Field, cells},
    numbers::lima_midnight,
    question::today,
    streams::{Kind, RawTable},
};
use crate::domain::money;

/// What a column of ours holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    Null,
    Text(String),
    Date(NaiveDate),
    Time(DateTime<Utc>),
    Amount(Decimal),
    Int(i64),
}

impl Datum {
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub fn date(&self) -> Option<NaiveDate> {
        if let Self::Date(day) = self { Some(*day) } else { None }
    }

    pub fn time(&self) -> Option<DateTime<Utc>> {
        if let Self::Time(at) = self { Some(*at) } else { None }
    }

    pub fn amount(&self) -> Option<Decimal> {
        if let Self::Amount(amount) = self { Some(*amount) } else { None }
    }

    pub fn int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }
}

/// A row of a raw table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Of the table's columns, in their order.
    pub values: Vec<Datum>,
    /// What the source has beside, as JSON. None: nothing.
    pub extra: Option<String>,
    /// Of all that the source sent.
    pub hash: String,
    /// The moment of the snapshot that it is from.
    pub read_at: DateTime<Utc>,
}

impl Row {
    /// Where it stands in its stream. None: the stream has no cursor.
    pub fn moment(&self, table: &RawTable) -> Option<DateTime<Utc>> {
        self.time(table, table.cursor?)
    }

    /// What says which of two rows with its key is the newer. None: the table has nothing that does.
    pub fn version(&self, table: &RawTable) -> Option<DateTime<Utc>> {
        self.time(table, table.version?)
    }

    fn time(&self, table: &RawTable, column: &str) -> Option<DateTime<Utc>> {
        let place = table.columns.iter().position(|(name, _)| *name == column)?;
        self.values[place].time()
    }
}

/// A record that can't be kept: what it breaks, and the record.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRecord {
    pub key: String,
    pub rule: String,
    pub record: Value,
    /// As a row's values, where all of its key can be read: the row that the table has there is not gone.
    pub known: Option<Vec<Datum>>,
}

/// The rows of a page, and its records that can't be kept.
pub type Read = (Vec<Row>, Vec<BadRecord>);

/// Whether the source still has the columns that nothing goes without.
fn check(table: &RawTable, fields: &[Field]) -> Result<(), String> {
    for (column, kind) in table.columns {
        let needed = table.key.contains(column) || table.cursor == Some(column) || *kind == Kind::Amount;
        let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(column));
        let Some(field) = field else {
            if needed {
                return Err(format!("column {column} is missing"));
            }
            continue;
        };
        let fits: &[&str] = match kind {
            Kind::Amount => &["NUMERIC", "BIGNUMERIC", "FLOAT", "FLOAT64", "INTEGER", "INT64"],
            Kind::Date | Kind::Time => &["DATE", "DATETIME", "TIMESTAMP"],
            Kind::Text | Kind::Code => {
                &["STRING", "INTEGER", "INT64", "BOOLEAN", "BOOL", "NUMERIC", "FLOAT", "FLOAT64"]
            }
            Kind::Int => &["INTEGER", "INT64", "NUMERIC", "FLOAT", "FLOAT64"],
        };
        let repeated = field.mode.as_deref() == Some("REPEATED");
        if needed && (repeated || !fits.contains(&field.kind.as_str())) {
            return Err(format!("column {column} is of type {}", field.kind));
        }
    }
    Ok(())
}

/// Reads a page's rows, as of the moment of their snapshot.
///
/// # Errors
/// How the source has changed: a column that nothing goes without is missing or of another type, or a row is not as the
/// columns say.
pub fn read(
    table: &RawTable,
    fields: &[Field],
    rows: &[&RawValue],
    read_at: DateTime<Utc>,
) -> Result<Read, String> {
    check(table, fields)?;
    let plan = Plan::new(table, fields);
    let (mut good, mut bad) = (Vec::with_capacity(rows.len()), Vec::new());
    let mut text = Vec::new();
    for row in rows {
        let cells = cells(fields, row).map_err(|drift| drift.to_string())?;
        match plan.row(cells, read_at, &mut text) {
            Ok(row) => good.push(row),
            Err(record) => bad.push(record),
        }
    }
    Ok((good, bad))
}

/// Reads a record that was kept, whose columns are `fields`, in the order of the record's.
///
/// # Errors
/// What it breaks.
pub fn reread(
    table: &RawTable,
    fields: &[Field],
    record: Map<String, Value>,
    read_at: DateTime<Utc>,
) -> Result<Row, BadRecord> {
    let cells = record.into_iter().map(|(_, value)| Cell::from(value)).collect();
    Plan::new(table, fields).row(cells, read_at, &mut Vec::new())
}

/// One row a key, the newest, in the order of the keys; and those that it has beaten and that have another moment.
pub fn newest(table: &RawTable, mut rows: Vec<Row>) -> (Vec<Row>, Vec<Row>) {
    let place = |name: &str| table.columns.iter().position(|(column, _)| *column == name);
    let key: Vec<usize> = table.key.iter().filter_map(|name| place(name)).collect();
    let version = table.version.and_then(place);
    let by_key = |a: &Row, b: &Row| {
        key.iter().fold(Ordering::Equal, |so_far, at| so_far.then_with(|| a.values[*at].cmp(&b.values[*at])))
    };
    rows.sort_unstable_by(|a, b| {
        let newer = || version.map_or(Ordering::Equal, |at| b.values[at].cmp(&a.values[at]));
        by_key(a, b)
            .then_with(newer)
            .then_with(|| b.read_at.cmp(&a.read_at))
            .then_with(|| a.hash.cmp(&b.hash))
    });
    let mut beaten = Vec::new();
    rows.dedup_by(|row, kept| {
        let is_twice = by_key(row, kept).is_eq();
        if is_twice && row.moment(table) != kept.moment(table) {
            beaten.push(row.clone());
        }
        is_twice
    });
    (rows, beaten)
}

/// Which of a page's columns are which of the table's: found once, for all of the page's rows.
struct Plan<'a> {
    table: &'a RawTable,
    /// In lower case: BigQuery's are the same in any.
    names: Vec<String>,
    /// Each name as JSON, with a colon after it.
    keys: Vec<String>,
    /// Of the table's columns: which of the page's it is, and its type there.
    own: Vec<Option<(usize, &'a str)>>,
    /// The page's others.
    beside: Vec<usize>,
    /// All of the page's, by name.
    sorted: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn new(table: &'a RawTable, fields: &'a [Field]) -> Self {
        let names: Vec<String> = fields.iter().map(|field| field.name.to_lowercase()).collect();
        let find = |(column, _): &(&str, Kind)| {
            let at = names.iter().position(|name| name == column)?;
            Some((at, fields[at].kind.as_str()))
        };
        let own = table.columns.iter().map(find).collect();
        let beside = (0..names.len()).filter(|at| table.kind(&names[*at]).is_none()).collect();
        let mut sorted: Vec<usize> = (0..names.len()).collect();
        sorted.sort_by_key(|at| &names[*at]);
        let keys = names.iter().map(|name| format!("{}:", Value::from(name.as_str()))).collect();
        Self { table, names, keys, own, beside, sorted }
    }

    /// A row; `text` is a buffer that rows share.
    fn row(
        &self,
        cells: Vec<Cell<'_>>,
        read_at: DateTime<Utc>,
        text: &mut Vec<u8>,
    ) -> Result<Row, BadRecord> {
        let mut values = Vec::with_capacity(self.own.len());
        let mut broken = None;
        for ((column, kind), source) in self.table.columns.iter().zip(&self.own) {
            let (cell, source) = source.map_or((&Cell::Null, ""), |(at, source)| (&cells[at], source));
            match datum(*kind, source, cell) {
                Some(value) => {
                    if value == Datum::Null && self.required(column) {
                        broken.get_or_insert_with(|| format!("{column} is null"));
                    }
                    values.push(value);
                }
                None => {
                    let value = Value::from(cell.clone());
                    broken.get_or_insert_with(|| format!("{column}: {value} is not a {kind:?}"));
                    values.push(Datum::Null);
                }
            }
        }
        if let Some(rule) = broken {
            return Err(self.bad(rule, cells, values));
        }
        Ok(Row { values, extra: self.extra(&cells), hash: self.hash(&cells, text), read_at })
    }

    /// Columns that the table does not take null in.
    fn required(&self, column: &str) -> bool {
        self.table.key.contains(&column)
            || self.table.cursor == Some(column)
            || matches!(
                (self.table.name, column),
                ("raw_calendario", "fecha_apertura") | ("raw_trandeuda", "monto_exigible")
            )
    }

    /// Of all columns by name as one JSON object: the same row has the same text.
    fn hash(&self, cells: &[Cell<'_>], text: &mut Vec<u8>) -> String {
        text.clear();
        text.push(b'{');
        for (number, at) in self.sorted.iter().enumerate() {
            if number > 0 {
                text.push(b',');
            }
            text.extend_from_slice(self.keys[*at].as_bytes());
            serde_json::to_writer(&mut *text, &cells[*at]).expect("a vector takes all, and keys are texts");
        }
        text.push(b'}');
        hex(&Sha256::digest(&text[..])[..16])
    }

    fn extra(&self, cells: &[Cell<'_>]) -> Option<String> {
        let beside = |at: &usize| (self.names[*at].clone(), Value::from(cells[*at].clone()));
        let extra: Map<String, Value> = self.beside.iter().map(beside).collect();
        (!extra.is_empty()).then(|| clean(Value::Object(extra)).to_string())
    }

    fn bad(&self, rule: String, cells: Vec<Cell<'_>>, values: Vec<Datum>) -> BadRecord {
        let record: Map<String, Value> =
            self.names.iter().cloned().zip(cells.into_iter().map(Value::from)).collect();
        let text = |column: &&str| match record.get(*column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let key = self.table.key.iter().map(text).collect::<Vec<_>>().join("|");
        let unread = |((column, _), value): (&(&str, Kind), &Datum)| {
            self.table.key.contains(column) && *value == Datum::Null
        };
        let keyless = self.table.columns.iter().zip(&values).any(unread);
        BadRecord {
            key: without_nul(&key),
            rule,
            record: clean(Value::Object(record)),
            known: (!keyless).then_some(values),
        }
    }
}

/// PostgreSQL has no zero byte in texts, nor in those of JSON.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

/// The same for all texts of a value.
fn clean(value: Value) -> Value {
    match value {
        Value::String(text) => without_nul(&text).into(),
        Value::Array(values) => values.into_iter().map(clean).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (without_nul(&name), clean(value))).collect()
        }
        other => other,
    }
}

/// A cell as our column has it; `source` is its type at BigQuery. None: it can't be one.
fn datum(kind: Kind, source: &str, cell: &Cell<'_>) -> Option<Datum> {
    let text = match cell {
        Cell::Null if kind == Kind::Code => return Some(Datum::Text(String::new())),
        Cell::Null => return Some(Datum::Null),
        Cell::Int(number) if kind == Kind::Int => return Some(Datum::Int(*number)),
        Cell::Time(at) if kind == Kind::Time => return Some(Datum::Time(*at)),
        Cell::Time(at) if kind == Kind::Date => return Some(Datum::Date(today(*at))),
        Cell::Text(text) => text.clone(),
        other => match Value::from(other.clone()) {
            Value::String(text) => text.into(),
            other => other.to_string().into(),
        },
    };
    Some(match kind {
        Kind::Text | Kind::Code if text.contains('\0') => Datum::Text(without_nul(&text)),
        Kind::Text | Kind::Code => Datum::Text(text.into_owned()),
        Kind::Amount => Datum::Amount(money::parse(&text).ok()?),
        Kind::Int => Datum::Int(whole(&text)?),
        Kind::Date if source == "TIMESTAMP" => Datum::Date(today(text.parse().ok()?)),
        Kind::Date => Datum::Date(day(&text)?),
        Kind::Time => Datum::Time(match source {
            // What has no zone is Lima's.
            "DATE" => lima_midnight(text.parse().ok()?),
            "DATETIME" => {
                let time = text.get(11..)?.parse::<NaiveTime>().ok()?;
                lima_midnight(day(&text)?) + time.signed_duration_since(NaiveTime::MIN)
            }
            _ => text.parse().ok()?,
        }),
    })
}

/// A whole number, whatever type its column has: `20.0` and `2E1` are twenty.
fn whole(text: &str) -> Option<i64> {
    let amount = money::parse(text).ok()?;
    if amount.fract().is_zero() { amount.to_i64() } else { None }
}

/// The day that a text begins with.
fn day(text: &str) -> Option<NaiveDate> {
    text.get(..10)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::streams::table_of, *};

    fn fields(columns: &[(&str, &str)]) -> Vec<Field> {
        let field = |(name, kind): &(&str, &str)| Field {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            mode: None,
            fields: Vec::new(),
        };
        columns.iter().map(field).collect()
    }

    fn page(stream: &str, columns: &[(&str, &str)], rows: &[Value]) -> Read {
        let rows: Vec<_> =
            rows.iter().map(|row| serde_json::value::to_raw_value(row).expect("JSON")).collect();
        let rows: Vec<&RawValue> = rows.iter().map(AsRef::as_ref).collect();
        let table = table_of(stream).expect("a stream");
        read(table, &fields(columns), &rows, DateTime::UNIX_EPOCH).expect("no drift")
    }

    const PAYMENTS: [(&str, &str); 6] = [
        ("Nro_Documento", "STRING"),
        ("fecha_pago", "DATE"),
        ("nuevo", "STRING"),
        ("monto_cancelado", "FLOAT"),
        ("creado_el", "TIMESTAMP"),
        ("cod_sistema", "INTEGER"),
    ];

    fn payment(document: &str, amount: &str, micros: i64) -> Value {
        json!({ "f": [{ "v": document }, { "v": "2025-06-01" }, { "v": "x\"\u{e9}" }, { "v": amount },
                      { "v": micros.to_string() }, { "v": "7" }] })
    }

    #[test]
    fn a_row_is_typed_and_its_fingerprint_is_that_of_its_columns_by_name() {
        let (rows, bad) = page("bigquery.pagos", &PAYMENTS, &[payment("D1", "1.4E3", 1_749_000_000_000_001)]);
        assert_eq!(bad, []);
        let at = DateTime::from_timestamp_micros(1_749_000_000_000_001).expect("a moment");
        let expected = [
            Datum::Text("D1".to_owned()),
            Datum::Date("2025-06-01".parse().expect("a day")),
            Datum::Amount(Decimal::new(1_400, 0)),
            Datum::Time(at),
            Datum::Text("7".to_owned()),
            Datum::Null,
            Datum::Null,
        ];
        assert_eq!(rows[0].values, expected);
        assert_eq!(rows[0].extra.as_deref(), Some("{\"nuevo\":\"x\\\"é\"}"));
        // Of rows that were read before this was written: all would be written once more where it is another.
        let all = json!({ "nro_documento": "D1", "fecha_pago": "2025-06-01", "nuevo": "x\"é", "monto_cancelado": "1.4E3",
                          "creado_el": "2025-06-04T01:20:00.000001Z", "cod_sistema": 7 });
        assert_eq!(rows[0].hash, hex(&Sha256::digest(all.to_string())[..16]));
    }

    #[test]
    fn a_whole_number_is_one_in_any_spelling_and_a_part_of_one_is_none() {
        for (text, expected) in [
            ("20", Some(20)),
            ("20.0", Some(20)),
            ("2.0E1", Some(20)),
            ("12.7", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(whole(text), expected, "{text}");
        }
    }

    #[test]
    fn of_rows_with_one_key_the_newest_is_kept() {
        let rows = [
            payment("D2", "5", 20),
            payment("D1", "7.0", 10),
            payment("D1", "7", 30),
            payment("D1", "7.000", 20),
        ];
        let (rows, _) = page("bigquery.pagos", &PAYMENTS, &rows);
        let table = table_of("bigquery.pagos").expect("a stream");
        let told = |rows: &[Row]| -> Vec<_> {
            rows.iter().map(|row| (row.values[0].clone(), row.values[3].clone())).collect()
        };
        let of = |(document, micros): (&str, i64)| {
            let at = DateTime::from_timestamp_micros(micros).expect("a moment");
            (Datum::Text(document.to_owned()), Datum::Time(at))
        };
        let (kept, beaten) = newest(table, rows);
        assert_eq!(told(&kept), [("D1", 30), ("D2", 20)].map(of));
        assert_eq!(told(&beaten), [("D1", 20), ("D1", 10)].map(of));
        // What came twice at one moment is read again with it.
        let twice = [payment("D1", "7", 30), payment("D1", "7.0", 30)];
        let (kept, beaten) = newest(table, page("bigquery.pagos", &PAYMENTS, &twice).0);
        assert_eq!((kept.len(), beaten.len()), (1, 0));
    }

    #[test]
    fn a_bad_record_says_what_it_breaks_and_which_row_it_is() {
        let rows = [payment("D1", "5", 10), payment("D1", "mu\0cho", 10)];
        let (rows, bad) = page("bigquery.pagos", &PAYMENTS, &rows);
        assert_eq!((rows.len(), bad.len()), (1, 1));
        assert_eq!(bad[0].rule, "monto_cancelado: \"mu\\u0000cho\" is not a Amount");
        assert_eq!(
            (bad[0].key.as_str(), &bad[0].known),
            ("D1|2025-06-01|mucho", &None),
            "an amount is in the key"
        );
        let columns = [("uid", "STRING"), ("date", "TIMESTAMP"), ("monto_compromiso", "NUMERIC")];
        let row = json!({ "f": [{ "v": "M1" }, { "v": "5" }, { "v": "mucho" }] });
        let (_, bad) = page("bigquery.mibotair_gestiones", &columns, &[row]);
        let known = bad[0].known.as_ref().expect("its key can be read");
        assert_eq!(known[0], Datum::Text("M1".to_owned()));
        assert_eq!(bad[0].record["monto_compromiso"], "mucho");
    }

    #[test]
    fn a_column_that_nothing_goes_without_is_missed() {
        let table = table_of("bigquery.pagos").expect("a stream");
        let without = fields(&PAYMENTS[1..]);
        assert_eq!(
            read(table, &without, &[], DateTime::UNIX_EPOCH),
            Err("column nro_documento is missing".to_owned())
        );
    }
}
