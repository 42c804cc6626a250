//! `numeros.db`: read, never written to.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rusqlite::{Connection, OpenFlags};

use super::raw::{Raw, RawRow};

/// The columns that become a contact, after `id`.
const COLUMNS: [&str; 10] = [
    "numero",
    "campo1_original",
    "nombre",
    "direccion",
    "colonia",
    "municipio_cof",
    "estado_cof",
    "ciudad_por_lada",
    "es_valido",
    "fecha_migracion",
];

/// A database of numbers.
#[derive(Clone, Debug)]
pub struct Sqlite {
    path: PathBuf,
    /// Whether it keeps numbers apart, so that only respelled ones can collide.
    pub phones_are_unique: bool,
    /// How many rows are to be read.
    pub rows: i64,
    /// The first and the last id of them.
    pub bounds: Option<(i64, i64)>,
}

impl Sqlite {
    /// Looks at what there is to read: all rows, or the first `limit`.
    ///
    /// # Errors
    /// No SQLite database, changes that are not in the file yet, no table `numeros`, columns that it lacks.
    pub fn open(path: &Path, limit: Option<u64>) -> anyhow::Result<Self> {
        Self::look(path, limit)
            .with_context(|| format!("{} can't be read as a database of numbers", path.display()))
    }

    fn look(path: &Path, limit: Option<u64>) -> anyhow::Result<Self> {
        let conn = connect(path)?;
        let columns: Vec<String> = conn
            .prepare("select name from pragma_table_info('numeros')")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} is no SQLite database", path.display()))?;
        ensure!(!columns.is_empty(), "{} has no table numeros", path.display());
        let missing: Vec<_> = ["id"]
            .iter()
            .chain(&COLUMNS)
            .filter(|name| !columns.iter().any(|column| column == *name))
            .collect();
        ensure!(
            missing.is_empty(),
            "{}: numeros has no column {missing:?}, only {columns:?}",
            path.display()
        );
        let has_key: bool = conn.query_row(
            "select count(*) = 1 and max(name = 'id' and upper(type) = 'INTEGER')
             from pragma_table_info('numeros') where pk > 0",
            [],
            |row| row.get(0),
        )?;
        ensure!(
            has_key,
            "{}: numeros.id is no INTEGER PRIMARY KEY, by which its rows could be told apart",
            path.display()
        );
        let phones_are_unique = conn.query_row(
            "select exists (
                 select 1 from pragma_index_list('numeros') l where l.\"unique\" and not l.partial
                     and (select group_concat(name) from pragma_index_info(l.name)) = 'numero')",
            [],
            |row| row.get(0),
        )?;
        let last: Option<i64> = match limit {
            None => conn.query_row("select max(id) from numeros", [], |row| row.get(0))?,
            Some(limit) => conn.query_row(
                "select max(id) from (select id from numeros order by id limit ?1)",
                [i64::try_from(limit)?],
                |row| row.get(0),
            )?,
        };
        let first: Option<i64> = conn.query_row("select min(id) from numeros", [], |row| row.get(0))?;
        let bounds = first.zip(last);
        let rows = match (bounds, limit) {
            (None, _) => 0,
            (Some(_), None) => conn.query_row("select count(*) from numeros", [], |row| row.get(0))?,
            (Some((_, last)), Some(_)) => {
                conn.query_row("select count(*) from numeros where id <= ?1", [last], |row| row.get(0))?
            }
        };
        Ok(Self { path: path.to_path_buf(), phones_are_unique, rows, bounds })
    }

    /// A connection for [`read`] and [`next_id`].
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn connect(&self) -> anyhow::Result<Connection> {
        connect(&self.path)
    }
}

/// The first id from `from` on.
///
/// # Errors
/// A database that can't be read.
pub fn next_id(conn: &Connection, from: i64) -> anyhow::Result<Option<i64>> {
    let next =
        conn.prepare("select min(id) from numeros where id >= ?1")?.query_row([from], |row| row.get(0))?;
    Ok(next)
}

/// Reads the rows of `first..=last`, in order, as long as `each` wants more.
///
/// # Errors
/// A database that can't be read.
pub fn read(
    conn: &Connection,
    first: i64,
    last: i64,
    mut each: impl FnMut(&RawRow<'_>) -> bool,
) -> anyhow::Result<()> {
    let select =
        format!("select id, {} from numeros where id between ?1 and ?2 order by id", COLUMNS.join(", "));
    let mut statement = conn.prepare(&select)?;
    let mut rows = statement.query([first, last])?;
    while let Some(row) = rows.next().with_context(|| format!("reading numeros from id {first} to {last}"))? {
        let value = |index| row.get_ref(index).map(Raw::from);
        let raw = RawRow {
            source_id: row.get(0)?,
            has_surplus: false,
            phone: value(1)?,
            phone_original: value(2)?,
            full_name: value(3)?,
            address: value(4)?,
            neighborhood: value(5)?,
            municipality: value(6)?,
            state_code: value(7)?,
            city: value(8)?,
            is_valid: value(9)?,
            migrated_at: value(10)?,
        };
        if !each(&raw) {
            break;
        }
    }
    Ok(())
}

/// Opens it so that nothing is written, not even a lock.
fn connect(path: &Path) -> anyhow::Result<Connection> {
    for suffix in ["-wal", "-journal"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        if std::fs::metadata(&beside).is_ok_and(|about| about.len() > 0) {
            bail!(
                "{} holds changes that are not in the database yet: close who writes to it, and run \
                 `PRAGMA wal_checkpoint(TRUNCATE)`",
                Path::new(&beside).display()
            );
        }
    }
    let mut url = url::Url::from_file_path(std::path::absolute(path)?)
        .map_err(|()| anyhow::anyhow!("{} is no path of a file", path.display()))?;
    url.set_query(Some("immutable=1"));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(url.as_str(), flags)
        .with_context(|| format!("{} can't be opened", path.display()))?;
    // A small cache: rows are read once, from front to back.
    conn.execute_batch("pragma query_only = 1; pragma cache_size = -4096; pragma temp_store = memory")
        .with_context(|| format!("{} is no SQLite database", path.display()))?;
    Ok(conn)
}
