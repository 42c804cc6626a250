//! SQL that moves many rows: a look at the keys, then one insert of what is new and one upsert of what changed. The
//! decision is [`judge`]'s, so that both databases decide alike and counts are exact (affected rows are not: MySQL
//! counts 2 for an update, and drivers differ).

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Value};

use super::{
    Family,
    sql::{Sql, lists, pieces, repeated},
};
use crate::domain::{
    merge::{Known, Verdict, dedupe, judge},
    table::{Column, Kind, OWN, Row, Table, key_text},
};

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
/// say that a newer answer does not have it.
///
/// # Errors
/// As [`merge`].
pub async fn merge_all(
    conn: &impl ConnectionTrait,
    tables: &[(&'static Table, Vec<Row>)],
    families: &[Family],
    run: &str,
    now: DateTime<Utc>,
) -> Result<HashMap<&'static str, Merged>, DbErr> {
    let mut all: HashMap<&'static str, Merged> = HashMap::new();
    for (table, rows) in tables {
        let family = families.iter().find(|family| family.table.name == table.name);
        let parent = family.and_then(|family| {
            let place = table.columns.iter().position(|column| column.name == family.column)?;
            Some((place, &all.get(family.of.name)?.outdated))
        });
        let merged = match parent {
            Some((place, outdated)) if !outdated.is_empty() => {
                let is_current = |row: &&Row| !outdated.contains(&key_text(&row.values[place..=place]));
                let current: Vec<Row> = rows.iter().filter(is_current).cloned().collect();
                let mut merged = merge(conn, table, &current, run, now).await?;
                merged.older += (rows.len() - current.len()) as u64;
                merged
            }
            _ => merge(conn, table, rows, run, now).await?,
        };
        all.insert(table.name, merged);
    }
    Ok(all)
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
    let mut merged = Merged::default();
    let rows = dedupe(table, rows);
    let known = look_up(conn, table, &rows).await?;
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

/// What the table has under these keys. The rows stay as they are until the caller's transaction ends.
async fn look_up(
    conn: &impl ConnectionTrait,
    table: &Table,
    rows: &[(String, &Row)],
) -> Result<HashMap<String, Known>, DbErr> {
    let key: Vec<_> = table.key_columns().iter().map(|column| column.name).collect();
    let names = key.join(", ");
    let one = if table.key == 1 { "?".to_owned() } else { format!("({})", repeated("?", table.key)) };
    let left = if table.key == 1 { names.clone() } else { format!("({names})") };
    let mut all = HashMap::new();
    for list in lists(rows) {
        let text = format!(
            "SELECT {names}, huella, version, eliminado_en FROM {} WHERE {left} IN ({}) ORDER BY {names} FOR UPDATE",
            table.name,
            repeated(&one, list.len())
        );
        let values = list.iter().flat_map(|(_, row)| row.values[..table.key].iter().cloned());
        for row in Sql::new(text).bind_all(values).all(conn).await? {
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
    let columns: Vec<&Column> = table.columns.iter().chain(&OWN).collect();
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    let places: Vec<_> = columns.iter().map(|column| place(column, backend)).collect();
    let one = format!("({})", places.join(", "));
    let (names_list, end) =
        (names.join(", "), if upsert { on_conflict(table, &names, backend) } else { String::new() });
    for piece in pieces(rows) {
        let text =
            format!("INSERT INTO {} ({names_list}) VALUES {}{end}", table.name, repeated(&one, piece.len()));
        let values = piece.iter().flat_map(|row| {
            let own: [Value; 5] = [
                row.fingerprint.as_str().into(),
                row.version.into(),
                run.into(),
                now.into(),
                Option::<DateTime<Utc>>::None.into(),
            ];
            row.values.iter().cloned().chain(own)
        });
        Sql::new(text).bind_all(values).run(conn).await?;
    }
    Ok(())
}

/// JSON travels as text: MariaDB has no type of its own for it.
pub(super) fn place(column: &Column, backend: DbBackend) -> &'static str {
    if column.kind == Kind::Json && backend == DbBackend::Postgres { "CAST(? AS JSONB)" } else { "?" }
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
