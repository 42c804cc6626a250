//! Mark and sweep: what a full scan has met, and what it has not.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Value};

use super::{
    Family, Gone,
    merge::key_of,
    sql::{Sql, lists, repeated},
};
use crate::domain::table::{Kind, Table};

/// Notes the keys that a run has met. A key may come again: pages shift.
pub(super) async fn remember(
    conn: &impl ConnectionTrait,
    lane: &str,
    run: &str,
    keys: &[String],
) -> Result<(), DbErr> {
    let mut keys: Vec<&String> = keys.iter().collect();
    keys.sort();
    keys.dedup();
    let end = match conn.get_database_backend() {
        DbBackend::Postgres => " ON CONFLICT DO NOTHING",
        _ => " ON DUPLICATE KEY UPDATE clave = VALUES(clave)",
    };
    for keys in lists(&keys) {
        let places = repeated("(?, ?, ?)", keys.len());
        let statement =
            Sql::new(format!("INSERT INTO lote_vistos (stream, corrida, clave) VALUES {places}{end}"));
        let values = keys.iter().flat_map(|key| [lane.into(), run.into(), Value::from(key.as_str())]);
        statement.bind_all(values).run(conn).await?;
    }
    Ok(())
}

/// How many keys a run has met, with those of a page that is not committed yet.
///
/// # Errors
/// The database.
pub async fn count_met(
    conn: &impl ConnectionTrait,
    lane: &str,
    run: &str,
    page: &[String],
) -> Result<u64, DbErr> {
    let mut page: Vec<&str> = page.iter().map(String::as_str).collect();
    page.sort_unstable();
    page.dedup();
    let others = match page.len() {
        0 => String::new(),
        some => format!(" AND clave NOT IN ({})", repeated("?", some)),
    };
    let text = format!("SELECT count(*) AS n FROM lote_vistos WHERE stream = ? AND corrida = ?{others}");
    let count = Sql::new(text).bind(lane).bind(run).bind_all(page.iter().map(|key| Value::from(*key)));
    let met: i64 = count.one(conn).await?.map(|row| row.try_get("", "n")).transpose()?.unwrap_or_default();
    Ok(met.unsigned_abs() + page.len() as u64)
}

/// Forgets what runs of a lane have met, but for one that goes on.
///
/// # Errors
/// The database.
pub(super) async fn forget(conn: &impl ConnectionTrait, lane: &str, but: Option<&str>) -> Result<(), DbErr> {
    let statement = Sql::new("DELETE FROM lote_vistos WHERE stream = ? AND corrida <> ?");
    statement.bind(lane).bind(but.unwrap_or_default()).run(conn).await.map(drop)
}

/// Marks rows as gone that the source does not have beside the others of their parents. Gives how many. Of a parent that
/// comes more than once the newest answer counts.
///
/// # Errors
/// The database.
pub async fn delete_strangers(
    conn: &impl ConnectionTrait,
    families: &[Family],
    run: &str,
    now: DateTime<Utc>,
) -> Result<u64, DbErr> {
    let Some(first) = families.first() else { return Ok(0) };
    let (table, column, key) = (first.table, first.column, first.table.columns[0].name);
    let mut newest: BTreeMap<i64, &Family> = BTreeMap::new();
    for family in families {
        let known = newest.entry(family.parent).or_insert(family);
        if family.version >= known.version {
            *known = family;
        }
    }
    let parents: Vec<i64> = newest.keys().copied().collect();
    let mut strangers: BTreeMap<i64, Vec<Vec<Value>>> = BTreeMap::new();
    for list in lists(&parents) {
        let statement = format!(
            "SELECT {key} AS id, {column} AS parent, version FROM {} WHERE eliminado_en IS NULL AND {column} IN ({})
             ORDER BY {key} FOR UPDATE",
            table.name,
            repeated("?", list.len())
        );
        for row in
            Sql::new(statement).bind_all(list.into_iter().map(|parent| (*parent).into())).all(conn).await?
        {
            let (id, parent, version): (i64, i64, i64) =
                (row.try_get("", "id")?, row.try_get("", "parent")?, row.try_get("", "version")?);
            let Some(family) = newest.get(&parent) else { continue };
            if !family.keep.contains(&id) && version <= family.version {
                strangers.entry(family.version).or_default().push(vec![Value::from(id)]);
            }
        }
    }
    let mut deleted = 0;
    for (version, keys) in strangers {
        deleted += delete_by_key(conn, &Gone { table, keys, version }, run, now).await?;
    }
    Ok(deleted)
}

/// Keys of rows that are in the table and that the run has not met, among those that `only` (a condition of ours with
/// its values) leaves. What was written since `began` is not among them: somebody met it meanwhile.
///
/// # Errors
/// The database.
pub async fn unmet(
    conn: &impl ConnectionTrait,
    table: &Table,
    lane: &str,
    run: &str,
    began: DateTime<Utc>,
    only: (&str, Vec<Value>),
) -> Result<Vec<Vec<Value>>, DbErr> {
    let names: Vec<_> = table.key_columns().iter().map(|column| column.name).collect();
    let key = key_expression(table, conn.get_database_backend());
    let statement = format!(
        "SELECT {names} FROM {} t WHERE eliminado_en IS NULL AND actualizado_en < ?{}
             AND NOT EXISTS (SELECT 1 FROM lote_vistos v WHERE v.stream = ? AND v.corrida = ? AND v.clave = {key})
         ORDER BY {names}",
        table.name,
        if only.0.is_empty() { String::new() } else { format!(" AND {}", only.0) },
        names = names.join(", "),
    );
    let rows = Sql::new(statement).bind(began).bind_all(only.1).bind(lane).bind(run).all(conn).await?;
    rows.iter().map(|row| key_of(table, row)).collect()
}

/// The key as [`crate::domain::table::key_text`] writes it.
fn key_expression(table: &Table, backend: DbBackend) -> String {
    let parts: Vec<_> = table
        .key_columns()
        .iter()
        .map(|column| match (column.kind, backend) {
            (Kind::Int, DbBackend::Postgres) => format!("t.{}::text", column.name),
            (Kind::Int, _) => format!("CAST(t.{} AS CHAR)", column.name),
            _ => format!("t.{}", column.name),
        })
        .collect();
    let joined = parts.join(", '|', ");
    if parts.len() == 1 { joined } else { format!("concat({joined})") }
}

/// Marks rows as gone, but for those that are newer than the answer which says so. Gives how many were not so before.
///
/// A row that is gone has the version of that answer: an older one, which still had the row, does not bring it back.
///
/// # Errors
/// The database.
pub async fn delete_by_key(
    conn: &impl ConnectionTrait,
    gone: &Gone,
    run: &str,
    now: DateTime<Utc>,
) -> Result<u64, DbErr> {
    let Gone { table, keys, version } = gone;
    let condition: Vec<_> = table.key_columns().iter().map(|column| format!("{} = ?", column.name)).collect();
    let one = format!("({})", condition.join(" AND "));
    let mut deleted = 0;
    for keys in lists(keys) {
        let statement = Sql::new(format!(
            "UPDATE {} SET eliminado_en = ?, version = ?, actualizado_en = ?, corrida = ?
             WHERE eliminado_en IS NULL AND version <= ? AND ({})",
            table.name,
            vec![one.as_str(); keys.len()].join(" OR ")
        ));
        let values = keys.into_iter().flatten().cloned();
        let statement = statement.bind(now).bind(*version).bind(now).bind(run).bind(*version);
        deleted += statement.bind_all(values).run(conn).await?;
    }
    Ok(deleted)
}

/// Those of `ids` that are keys of a table, which has a key of one number. Also of rows that are gone.
///
/// # Errors
/// The database.
pub async fn present(conn: &impl ConnectionTrait, table: &Table, ids: &[i64]) -> Result<HashSet<i64>, DbErr> {
    let key = table.columns[0].name;
    let mut present = HashSet::new();
    for list in lists(ids) {
        let places = repeated("?", list.len());
        let query = Sql::new(format!("SELECT {key} AS id FROM {} WHERE {key} IN ({places})", table.name));
        for row in query.bind_all(list.into_iter().map(|id| (*id).into())).all(conn).await? {
            present.insert(row.try_get("", "id")?);
        }
    }
    Ok(present)
}

/// The highest so many keys of a table, which has a key of one number. Also of rows that are gone.
///
/// # Errors
/// The database.
pub async fn highest(conn: &impl ConnectionTrait, table: &Table, most: usize) -> Result<Vec<i64>, DbErr> {
    let key = table.columns[0].name;
    let query = format!("SELECT {key} AS id FROM {} ORDER BY {key} DESC LIMIT {most}", table.name);
    let rows = Sql::new(query).all(conn).await?;
    rows.iter().map(|row| row.try_get("", "id")).collect()
}

/// How many rows of a table the source still has.
///
/// # Errors
/// The database.
pub async fn count_live(conn: &impl ConnectionTrait, table: &str) -> Result<u64, DbErr> {
    let row =
        Sql::new(format!("SELECT count(*) AS n FROM {table} WHERE eliminado_en IS NULL")).one(conn).await?;
    let count: i64 = row.map(|row| row.try_get("", "n")).transpose()?.unwrap_or_default();
    Ok(count.unsigned_abs())
}
