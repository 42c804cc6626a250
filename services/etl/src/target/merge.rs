//! SQL that moves many rows: a look at the keys, then one insert of what is new and one upsert of what changed. The
//! decision is [`judge`]'s, so that both databases decide alike and counts are exact (affected rows are not: MySQL
//! counts 2 for an update, and drivers differ).

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use chrono::{DateTime, SecondsFormat, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Value};

use super::{
    Family,
    sql::{Array, Sql, array, lists, pieces, repeated},
};
use crate::domain::{
    merge::{Known, Verdict, dedupe, judge},
    table::{Kind, OWN, Row, Table, key_text, spell},
};

/// Rows of one of PostgreSQL's statements at most, so that its text has a size that a server takes.
const ROWS: usize = 2_048;

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    pub inserted: u64,
    pub updated: u64,
    pub same: u64,
    pub older: u64,
    /// The keys of what was inserted.
    pub new: HashSet<String>,
    /// The keys of which the table has a newer row.
    pub outdated: HashSet<String>,
}

/// Merges rows of several tables, parents before the rows that belong to them, in the caller's transaction. Gives what became
/// of each table's. Rows that came with an outdated parent stay out: one that was never in the table has no version there to
/// say that a newer answer does not have it. With `trust`, rows whose parent is new are not looked up: they are written
/// together, so that they are new too. Where somebody has deleted the parent alone, that is a unique violation.
///
/// # Errors
/// As [`merge`].
pub async fn merge_all(
    conn: &impl ConnectionTrait,
    tables: &[(&'static Table, Vec<Row>)],
    families: &[Family],
    run: &str,
    now: DateTime<Utc>,
    trust: bool,
) -> Result<HashMap<&'static str, Merged>, DbErr> {
    let mut all: HashMap<&'static str, Merged> = HashMap::new();
    for (table, rows) in tables {
        let family = families.iter().find(|family| family.table.name == table.name);
        let parents = family.and_then(|family| {
            let place = table.columns.iter().position(|column| column.name == family.column)?;
            Some((place, all.get(family.of.name)?))
        });
        let merged = match parents {
            Some((place, parents)) => {
                let current = current(rows, place, &parents.outdated);
                let of_new = trust.then_some((place, &parents.new));
                let mut merged = merge_of(conn, table, &current, of_new, run, now).await?;
                merged.older += (rows.len() - current.len()) as u64;
                merged
            }
            None => merge(conn, table, rows, run, now).await?,
        };
        all.insert(table.name, merged);
    }
    Ok(all)
}

/// The rows whose parents are not outdated.
fn current<'a>(rows: &'a [Row], place: usize, outdated: &HashSet<String>) -> Cow<'a, [Row]> {
    if outdated.is_empty() {
        return rows.into();
    }
    let is_current = |row: &&Row| !outdated.contains(&key_text(&row.values[place..=place]));
    rows.iter().filter(is_current).cloned().collect::<Vec<_>>().into()
}

/// Merges rows into their table, in the caller's transaction. `now` is when they are written, by the caller's clock.
///
/// # Errors
/// The database. A row that somebody inserted at this moment is a unique violation: the batch is repeated.
pub async fn merge(
    conn: &impl ConnectionTrait,
    table: &Table,
    rows: &[Row],
    run: &str,
    now: DateTime<Utc>,
) -> Result<Merged, DbErr> {
    merge_of(conn, table, rows, None, run, now).await
}

/// The same. `of_new`: the place of a parent's key among a row's values, and the parents whose rows are new.
async fn merge_of(
    conn: &impl ConnectionTrait,
    table: &Table,
    rows: &[Row],
    of_new: Option<(usize, &HashSet<String>)>,
    run: &str,
    now: DateTime<Utc>,
) -> Result<Merged, DbErr> {
    let mut merged = Merged::default();
    let rows = dedupe(table, rows);
    let known = look_up(conn, table, &not_of_new(&rows, of_new)).await?;
    let (mut new, mut changed) = (Vec::new(), Vec::new());
    for (key, row) in rows {
        match judge(known.get(&key), &row.fingerprint, row.version) {
            Verdict::Insert => {
                merged.new.insert(key);
                new.push(row);
            }
            Verdict::Update => changed.push(row),
            Verdict::Same => merged.same += 1,
            Verdict::Older => {
                merged.older += 1;
                merged.outdated.insert(key);
            }
        }
    }
    (merged.inserted, merged.updated) = (new.len() as u64, changed.len() as u64);
    write(conn, table, &new, false, run, now).await?;
    write(conn, table, &changed, true, run, now).await?;
    Ok(merged)
}

/// The rows that the table may have.
fn not_of_new<'a, 'r>(
    rows: &'a [(String, &'r Row)],
    of_new: Option<(usize, &HashSet<String>)>,
) -> Vec<&'a (String, &'r Row)> {
    let Some((place, parents)) = of_new else { return rows.iter().collect() };
    let is_of_new = |row: &Row| parents.contains(&key_text(&row.values[place..=place]));
    rows.iter().filter(|entry| !is_of_new(entry.1)).collect()
}

/// What the table has under these keys. The rows stay as they are until the caller's transaction ends.
async fn look_up(
    conn: &impl ConnectionTrait,
    table: &Table,
    rows: &[&(String, &Row)],
) -> Result<HashMap<String, Known>, DbErr> {
    let key: Vec<_> = table.key_columns().iter().map(|column| column.name).collect();
    let names = key.join(", ");
    let select = |condition: String| {
        Sql::new(format!(
            "SELECT {names}, huella, version, eliminado_en FROM {} WHERE {condition} ORDER BY {names} FOR UPDATE",
            table.name
        ))
    };
    let mut statements: Vec<Sql> = Vec::new();
    if table.key == 1 && conn.get_database_backend() == DbBackend::Postgres {
        let kind = array_of(table.columns[0].kind);
        statements.extend(rows.chunks(ROWS).map(|rows| {
            let keys = array(rows.iter().map(|(key, _)| key.as_str()));
            select(format!("{names} = ANY(CAST(? AS {kind}))")).bind(keys)
        }));
    } else {
        let one = format!("({})", repeated("?", table.key));
        statements.extend(lists(rows).map(|list| {
            let values: Vec<Value> =
                list.iter().flat_map(|(_, row)| row.values[..table.key].iter().cloned()).collect();
            select(format!("({names}) IN ({})", repeated(&one, list.len()))).bind_all(values)
        }));
    }
    let mut all = HashMap::new();
    for statement in statements {
        for row in statement.all(conn).await? {
            all.insert(key_text(&key_of(table, &row)?), known(&row)?);
        }
    }
    Ok(all)
}

/// The key of a row of the table.
pub(super) fn key_of(table: &Table, row: &QueryResult) -> Result<Vec<Value>, DbErr> {
    table
        .key_columns()
        .iter()
        .map(|column| {
            Ok(match column.kind {
                Kind::Int => row.try_get::<i64>("", column.name)?.into(),
                _ => row.try_get::<String>("", column.name)?.into(),
            })
        })
        .collect()
}

fn known(row: &QueryResult) -> Result<Known, DbErr> {
    let deleted: Option<DateTime<Utc>> = row.try_get("", "eliminado_en")?;
    Ok(Known {
        fingerprint: row.try_get("", "huella")?,
        version: row.try_get("", "version")?,
        deleted: deleted.is_some(),
    })
}

async fn write(
    conn: &impl ConnectionTrait,
    table: &Table,
    rows: &[&Row],
    upsert: bool,
    run: &str,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let backend = conn.get_database_backend();
    let names: Vec<_> = table.columns.iter().chain(&OWN).map(|column| column.name).collect();
    let insert = format!("INSERT INTO {} ({})", table.name, names.join(", "));
    let end = if upsert { on_conflict(table, &names, backend) } else { String::new() };
    if backend == DbBackend::Postgres {
        for rows in rows.chunks(ROWS) {
            let (select, values) = of_arrays(table, rows, run, now);
            Sql::new(format!("{insert} {select}{end}")).bind_all(values).run(conn).await?;
        }
        return Ok(());
    }
    let one = format!("({})", repeated("?", names.len()));
    for piece in pieces(rows) {
        let values = piece.iter().flat_map(|row| {
            let own: [Value; 5] = [
                row.fingerprint.as_str().into(),
                row.version.into(),
                run.into(),
                now.into(),
                Option::<DateTime<Utc>>::None.into(),
            ];
            row.values.iter().map(mysql_value).chain(own)
        });
        let text = format!("{insert} VALUES {}{end}", repeated(&one, piece.len()));
        Sql::new(text).bind_all(values).run(conn).await?;
    }
    Ok(())
}

/// Rows as PostgreSQL takes them best: an array a column, so that a statement has one text and few values, whatever the
/// number of rows. Gives the query that makes rows of them again, and its values.
fn of_arrays(table: &Table, rows: &[&Row], run: &str, now: DateTime<Utc>) -> (String, Vec<Value>) {
    // The last ones are the same in all rows.
    let columns = table.columns.iter().chain(&OWN).take(table.columns.len() + 2);
    let arrays: Vec<_> = columns.map(|column| format!("CAST(? AS {})", array_of(column.kind))).collect();
    let query = format!(
        "SELECT *, CAST(? AS TEXT), CAST(? AS TIMESTAMPTZ), CAST(NULL AS TIMESTAMPTZ) FROM UNNEST({})",
        arrays.join(", ")
    );
    let mut values: Vec<Value> = vec![run.into(), now.into()];
    let mut buffer = String::new();
    for place in 0..table.columns.len() {
        let mut array = Array::default();
        rows.iter().for_each(|row| array.push(postgres_text(&row.values[place], &mut buffer)));
        values.push(array.end().into());
    }
    values.push(array(rows.iter().map(|row| row.fingerprint.as_str())).into());
    let mut versions = Array::default();
    rows.iter().for_each(|row| versions.push(spell(&row.version.into(), &mut buffer)));
    values.push(versions.end().into());
    (query, values)
}

/// The type of an array of a column's values.
fn array_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "BIGINT[]",
        Kind::Text(_) | Kind::LongText => "TEXT[]",
        Kind::Amount => "NUMERIC[]",
        Kind::Date => "DATE[]",
        Kind::Time => "TIMESTAMPTZ[]",
        Kind::Flag => "BOOLEAN[]",
        Kind::Json => "JSONB[]",
    }
}

/// A value as PostgreSQL reads it; none for null. It takes no sign before a year of five digits.
fn postgres_text<'a>(value: &'a Value, buffer: &'a mut String) -> Option<&'a str> {
    match value {
        Value::ChronoDateTimeUtc(Some(time)) => {
            buffer.clear();
            buffer.push_str(time.to_rfc3339_opts(SecondsFormat::Micros, true).trim_start_matches('+'));
            Some(buffer.as_str())
        }
        Value::ChronoDate(Some(_)) => spell(value, buffer).map(|date| date.trim_start_matches('+')),
        other => spell(other, buffer),
    }
}

/// A value as MariaDB and MySQL take it. Their driver sends an amount as a text too, and takes longer to write it.
fn mysql_value(value: &Value) -> Value {
    match value {
        Value::Decimal(Some(_)) => {
            let mut text = String::with_capacity(24);
            spell(value, &mut text);
            text.into()
        }
        other => other.clone(),
    }
}

fn on_conflict(table: &Table, names: &[&str], backend: DbBackend) -> String {
    let rest = &names[table.key..];
    if backend == DbBackend::Postgres {
        let sets: Vec<_> = rest.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        return format!(" ON CONFLICT ({}) DO UPDATE SET {}", names[..table.key].join(", "), sets.join(", "));
    }
    // `VALUES(column)` works in MariaDB and MySQL; MySQL's newer row alias does not in MariaDB.
    let sets: Vec<_> = rest.iter().map(|name| format!("{name} = VALUES({name})")).collect();
    format!(" ON DUPLICATE KEY UPDATE {}", sets.join(", "))
}
