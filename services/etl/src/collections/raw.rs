//! A page of BigQuery's into a raw table. SQL by hand: a page is merged in one statement, as what it did not have is found.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgPool, types::Json};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    bigquery::Field,
    numbers::lima_midnight,
    streams::{Kind, RawTable},
};
use crate::domain::money;

/// Rows that may go at once whatever share of the slice they are.
const FUSE_FLOOR: i64 = 10;

/// A record that can't be kept: what it breaks, and the record.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRecord {
    pub key: String,
    pub rule: String,
    pub record: Value,
    /// The key's columns, where all of them can be read: the row that the table has there is not gone.
    pub known: Option<Value>,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    pub inserted: u64,
    pub updated: u64,
    /// As they were, older than what is there, or twice in the page.
    pub rest: u64,
}

/// Whether the source still has the columns that nothing goes without.
///
/// # Errors
/// The name of what is missing or of another type.
pub fn check(table: &RawTable, fields: &[Field]) -> Result<(), String> {
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

/// A row as the raw table has it. `read_at` is the moment of the snapshot that it is from.
///
/// # Errors
/// What it breaks.
pub fn record(
    table: &RawTable,
    fields: &[Field],
    mut row: Map<String, Value>,
    read_at: DateTime<Utc>,
) -> Result<Value, BadRecord> {
    // Maps are sorted, so the same row has the same text.
    let digest = Sha256::digest(Value::Object(row.clone()).to_string());
    let hash: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut made = Map::new();
    let mut broken = None;
    let whole = row.clone();
    for (column, kind) in table.columns {
        let value = row.remove(*column).unwrap_or_default();
        let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(column));
        let source = field.map_or("", |field| field.kind.as_str());
        match read(*kind, source, &value) {
            Some(value) => {
                if value.is_null()
                    && (table.key.contains(column) || table.cursor == Some(column) || required(table, column))
                {
                    broken.get_or_insert(format!("{column} is null"));
                }
                made.insert((*column).to_owned(), value);
            }
            None => drop(broken.get_or_insert(format!("{column}: {value} is not a {kind:?}"))),
        }
    }
    if let Some(rule) = broken {
        let key = table
            .key
            .iter()
            .map(|column| text(&whole[*column]).unwrap_or_default())
            .collect::<Vec<_>>()
            .join("|");
        let known = table.key.iter().map(|column| {
            let value = made.get(*column).filter(|value| !value.is_null())?;
            Some(((*column).to_owned(), value.clone()))
        });
        let known = known.collect::<Option<Map<_, _>>>().map(Value::Object);
        return Err(BadRecord { key: without_nul(&key), rule, record: clean(Value::Object(whole)), known });
    }
    made.insert("extra".to_owned(), clean(Value::Object(row)));
    made.insert("huella".to_owned(), hash.into());
    made.insert("leido_en".to_owned(), read_at.to_rfc3339_opts(SecondsFormat::Micros, true).into());
    Ok(Value::Object(made))
}

/// Columns that the table does not take null in, beside its key and cursor.
fn required(table: &RawTable, column: &str) -> bool {
    matches!((table.name, column), ("raw_calendario", "fecha_apertura") | ("raw_trandeuda", "monto_exigible"))
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

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A value as PostgreSQL takes it; `source` is its type at BigQuery. None: it can't be one.
fn read(kind: Kind, source: &str, value: &Value) -> Option<Value> {
    let Some(text) = text(value) else {
        return Some(if kind == Kind::Code { "".into() } else { Value::Null });
    };
    Some(match kind {
        Kind::Text | Kind::Code => without_nul(&text).into(),
        Kind::Amount => money::parse(&text).ok()?.to_string().into(),
        Kind::Int => text.split('.').next()?.parse::<i64>().ok()?.into(),
        Kind::Date => match source {
            "TIMESTAMP" => super::question::today(text.parse().ok()?).to_string().into(),
            _ => text.get(..10)?.parse::<NaiveDate>().ok()?.to_string().into(),
        },
        Kind::Time => match source {
            // What has no zone is Lima's.
            "DATE" => lima_midnight(text.parse().ok()?).to_rfc3339().into(),
            "DATETIME" => {
                let day = text.get(..10)?.parse::<NaiveDate>().ok()?;
                let time = text.get(11..)?.parse::<chrono::NaiveTime>().ok()?;
                let since = time.signed_duration_since(chrono::NaiveTime::MIN);
                (lima_midnight(day) + since).to_rfc3339_opts(SecondsFormat::Micros, true).into()
            }
            _ => text.parse::<DateTime<Utc>>().ok()?.to_rfc3339_opts(SecondsFormat::Micros, true).into(),
        },
    })
}

/// Merges rows of one page, in the caller's transaction: one row a key, the newest; what is as it was is not written;
/// an older version never beats a newer. All are noted as met by the run.
///
/// # Errors
/// The database.
pub async fn merge(
    conn: &mut PgConnection,
    table: &RawTable,
    run: Uuid,
    rows: Vec<Value>,
) -> sqlx::Result<Merged> {
    let number = rows.len() as u64;
    if rows.is_empty() {
        return Ok(Merged::default());
    }
    let quoted = |name: &str| format!("\"{name}\"");
    let own = ["extra", "huella", "leido_en"];
    let columns: Vec<String> = table.columns.iter().map(|(name, _)| *name).chain(own).map(quoted).collect();
    let key = table.key.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let names = columns.join(", ");
    let set: Vec<String> = columns.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let newest = table.version.map(|name| format!(", \"{name}\" desc")).unwrap_or_default();
    let version = |of: &str| match table.version {
        Some(name) => format!("({of}.\"{name}\", {of}.leido_en)"),
        None => format!("{of}.leido_en"),
    };
    let sql = format!(
        "with page as (
             select distinct on ({key}) {names} from jsonb_populate_recordset(null::{name}, $1) order by {key}{newest}, huella
         ),
         met as (
             insert into raw_met (run, key) select $2, hashtextextended(concat_ws('|', {key}), 0) from page
             on conflict do nothing
         ),
         written as (
             insert into {name} ({names}) select {names} from page
             on conflict ({key}) do update set {set}, eliminado_en = null
                 where ({name}.huella <> excluded.huella or {name}.eliminado_en is not null)
                   -- What is gone comes back only by a snapshot that is not older than the one which did not have it.
                   and case when {name}.eliminado_en is null then {newer} >= {known}
                            else excluded.leido_en >= {name}.leido_en end
             returning xmax = 0 as inserted
         )
         select count(*) filter (where inserted), count(*) filter (where not inserted) from written",
        name = table.name,
        set = set.join(", "),
        newer = version("excluded"),
        known = version(table.name),
    );
    let (inserted, updated): (i64, i64) =
        sqlx::query_as(AssertSqlSafe(sql)).bind(Json(rows)).bind(run).fetch_one(conn).await?;
    let (inserted, updated) = (inserted.unsigned_abs(), updated.unsigned_abs());
    Ok(Merged { inserted, updated, rest: number - inserted - updated })
}

/// Notes rows as met by the run whose records in the page are bad: by their keys, as [`BadRecord::known`] has them.
///
/// # Errors
/// The database.
pub async fn meet(
    conn: &mut PgConnection,
    table: &RawTable,
    run: Uuid,
    keys: Vec<Value>,
) -> sqlx::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let key = table.key.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "insert into raw_met (run, key)
         select $2, hashtextextended(concat_ws('|', {key}), 0) from jsonb_populate_recordset(null::{name}, $1)
         on conflict do nothing",
        name = table.name,
    );
    sqlx::query(AssertSqlSafe(sql)).bind(Json(keys)).bind(run).execute(conn).await.map(drop)
}

/// Marks the rows of a slice as gone that the run has not met in it: the source does not have them any more. Rows that
/// were read after the slice's snapshot stay. Gives how many, or why so many may not go.
///
/// # Errors
/// The database.
pub async fn sweep(
    conn: &mut PgConnection,
    table: &RawTable,
    run: Uuid,
    slice: super::streams::Slice,
    snapshot: DateTime<Utc>,
    fuse_percent: Option<u32>,
) -> sqlx::Result<Result<u64, String>> {
    let key = table.key.iter().map(|name| format!("t.\"{name}\"")).collect::<Vec<_>>().join(", ");
    let within = match table.cursor {
        Some(cursor) => {
            format!("($2::timestamptz is null or (t.\"{cursor}\" >= $2 and t.\"{cursor}\" < $3))")
        }
        None => "$2::timestamptz is not distinct from $3::timestamptz".to_owned(),
    };
    let (from, to) = slice.unzip();
    let live = format!(
        "select count(*) from {} t where t.eliminado_en is null and {within} and $1::uuid is not null",
        table.name
    );
    let live: i64 =
        sqlx::query_scalar(AssertSqlSafe(live)).bind(run).bind(from).bind(to).fetch_one(&mut *conn).await?;
    let sql = format!(
        "update {name} t set eliminado_en = now(), leido_en = $4
         where t.eliminado_en is null and {within} and t.leido_en < $4
           and not exists (select from raw_met m where m.run = $1 and m.key = hashtextextended(concat_ws('|', {key}), 0))",
        name = table.name,
    );
    let gone =
        sqlx::query(AssertSqlSafe(sql)).bind(run).bind(from).bind(to).bind(snapshot).execute(conn).await?;
    let gone = i64::try_from(gone.rows_affected()).unwrap_or(i64::MAX);
    if let Some(percent) = fuse_percent
        && gone > (live * i64::from(percent) / 100).max(FUSE_FLOOR)
    {
        return Ok(Err(format!(
            "{gone} of {live} rows are not at the source any more, which is more than {percent} %: run it again with force where that is so"
        )));
    }
    Ok(Ok(gone.unsigned_abs()))
}

/// Keeps records that could not be read, with why, as they came.
///
/// # Errors
/// The database.
pub async fn quarantine(
    conn: &mut PgConnection,
    stream: &str,
    run: Uuid,
    read_at: DateTime<Utc>,
    bad: &[BadRecord],
) -> sqlx::Result<()> {
    for record in bad {
        let text = record.record.to_string();
        let digest = Sha256::digest(format!("{stream}\0{text}"));
        let id: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        sqlx::query(
            "insert into raw_quarantine (id, stream, clave, regla, registro, corrida, leido_en, visto_en)
             values ($1, $2, $3, $4, $5, $6, $7, now())
             on conflict (id) do update set regla = excluded.regla, corrida = excluded.corrida,
                 leido_en = excluded.leido_en, visto_en = excluded.visto_en",
        )
        .bind(id)
        .bind(stream)
        .bind(&record.key)
        .bind(&record.rule)
        .bind(&record.record)
        .bind(run)
        .bind(read_at)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Deletes records in quarantine that no run has met since, and what runs that have ended had met. Gives how many
/// records.
///
/// # Errors
/// The database.
pub async fn purge(pool: &PgPool, before: DateTime<Utc>) -> sqlx::Result<u64> {
    sqlx::query(
        "delete from raw_met m where not exists (
             select from jobs j where j.id = m.run and j.state in ('pending', 'running'))",
    )
    .execute(pool)
    .await?;
    let gone =
        sqlx::query("delete from raw_quarantine where visto_en < $1").bind(before).execute(pool).await?;
    Ok(gone.rows_affected())
}

/// Forgets which keys a run has met.
///
/// # Errors
/// The database.
pub async fn forget_met(conn: &mut PgConnection, run: Uuid) -> sqlx::Result<()> {
    sqlx::query("delete from raw_met where run = $1").bind(run).execute(conn).await.map(drop)
}
