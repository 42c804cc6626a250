//! What `numeros.db` holds beside its numbers: the LADAs that its makers did not know, and the history of its making.

use anyhow::Context as _;
use rusqlite::{Connection, types::ValueRef};
use sea_orm::{DbErr, sqlx::PgConnection};

use super::{clean, raw::Raw, sqlite::Sqlite};
use crate::storage::{
    missing_ladas::{self, MissingLada},
    statistics::{self, Statistics},
};

/// Both tables; what is not there is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SideTables {
    pub missing_ladas: Vec<MissingLada>,
    pub statistics: Vec<Statistics>,
}

/// Reads both.
///
/// # Errors
/// A database that can't be read.
pub fn read(source: &Sqlite) -> anyhow::Result<SideTables> {
    let conn = source.connect()?;
    let mut tables = SideTables::default();
    if exists(&conn, "ladas_faltantes")? {
        let mut statement = conn
            .prepare(
                "select lada, cantidad_registros, ejemplos_numeros, fecha_detectado from ladas_faltantes",
            )
            .context("reading ladas_faltantes")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text = |index| row.get_ref(index).map(text);
            tables.missing_ladas.push(MissingLada {
                lada: text(0)?.unwrap_or_default(),
                rows: integer(row.get_ref(1)?),
                examples: text(2)?,
                detected_at: text(3)?,
            });
        }
    }
    if exists(&conn, "estadisticas_migracion")? {
        let mut statement = conn
            .prepare(
                "select id, total_procesados, total_validos, total_duplicados, total_con_ciudad, ladas_encontradas,
                        ladas_faltantes, tiempo_procesamiento_segundos, archivo_origen, fecha_migracion
                 from estadisticas_migracion",
            )
            .context("reading estadisticas_migracion")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut counts = [None; 6];
            for (index, count) in counts.iter_mut().enumerate() {
                *count = integer(row.get_ref(index + 1)?);
            }
            let seconds = match row.get_ref(7)? {
                ValueRef::Real(seconds) => Some(seconds),
                ValueRef::Integer(seconds) => Some(seconds as f64),
                _ => None,
            };
            let (origin, migrated_at) = (text(row.get_ref(8)?), text(row.get_ref(9)?));
            tables.statistics.push(Statistics { id: row.get(0)?, counts, seconds, origin, migrated_at });
        }
    }
    Ok(tables)
}

/// Keeps them with their import, in the place of what an earlier attempt kept.
///
/// # Errors
/// The database.
pub async fn keep(conn: &mut PgConnection, import: i32, tables: &SideTables) -> Result<(), DbErr> {
    missing_ladas::replace(conn, import, &tables.missing_ladas).await?;
    statistics::replace(conn, import, &tables.statistics).await
}

fn exists(conn: &Connection, table: &str) -> rusqlite::Result<bool> {
    conn.query_row(
        "select exists (select 1 from sqlite_master where type = 'table' and name = ?1)",
        [table],
        |row| row.get(0),
    )
}

fn text(value: ValueRef<'_>) -> Option<String> {
    clean::text(Raw::from(value), &mut 0).map(|text| text.into_owned())
}

/// A whole number; also one that numpy stored as eight little-endian bytes.
fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        ValueRef::Blob(bytes) => bytes.try_into().ok().map(i64::from_le_bytes),
        ValueRef::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        ValueRef::Null | ValueRef::Real(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_may_be_a_blob() {
        assert_eq!(integer(ValueRef::Blob(&36_000_000_i64.to_le_bytes())), Some(36_000_000));
        assert_eq!(integer(ValueRef::Blob(b"short")), None);
        assert_eq!(integer(ValueRef::Integer(7)), Some(7));
        assert_eq!(integer(ValueRef::Text(b" 12 ")), Some(12));
        assert_eq!(integer(ValueRef::Null), None);
    }
}
