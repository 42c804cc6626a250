//! Databases of numbers with rows of a test's own.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rusqlite::{
    Connection,
    types::{ToSql, ToSqlOutput, Value},
};

use crate::world::World;

/// The table as the real file has it.
pub const TABLE: &str = "CREATE TABLE numeros (id INTEGER PRIMARY KEY AUTOINCREMENT, numero TEXT NOT NULL UNIQUE,
    campo1_original TEXT, nombre TEXT, campo3 TEXT, direccion TEXT, colonia TEXT, municipio_csv TEXT, estado_sep TEXT,
    municipio_sep TEXT, estado_cof TEXT, municipio_cof TEXT, lada TEXT, ciudad_por_lada TEXT,
    es_valido BOOLEAN DEFAULT 1, fecha_migracion TIMESTAMP DEFAULT CURRENT_TIMESTAMP);";

/// A value of any of SQLite's types.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell(Value);

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self(Value::Text(text.to_owned()))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self(Value::Text(text))
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self(Value::Integer(number))
    }
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

/// A row of it; what is not given is NULL, but for `es_valido`, which is 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: i64,
    pub numero: Cell,
    pub nombre: Cell,
    pub direccion: Cell,
    pub colonia: Cell,
    pub municipio: Cell,
    pub estado: Cell,
    pub ciudad: Cell,
    pub es_valido: Cell,
    pub fecha: Cell,
}

impl Row {
    pub fn new(id: i64, numero: impl Into<Cell>) -> Self {
        Self {
            id,
            numero: numero.into(),
            nombre: Value::Null.into(),
            direccion: Value::Null.into(),
            colonia: Value::Null.into(),
            municipio: Value::Null.into(),
            estado: Value::Null.into(),
            ciudad: Value::Null.into(),
            es_valido: Value::Integer(1).into(),
            fecha: Value::Null.into(),
        }
    }

    pub fn nombre(mut self, nombre: impl Into<Cell>) -> Self {
        self.nombre = nombre.into();
        self
    }

    pub fn direccion(mut self, direccion: impl Into<Cell>) -> Self {
        self.direccion = direccion.into();
        self
    }

    pub fn colonia(mut self, colonia: impl Into<Cell>) -> Self {
        self.colonia = colonia.into();
        self
    }

    pub fn valido(mut self, valido: impl Into<Cell>) -> Self {
        self.es_valido = valido.into();
        self
    }

    pub fn fecha(mut self, fecha: impl Into<Cell>) -> Self {
        self.fecha = fecha.into();
        self
    }
}

/// Bytes as a TEXT of SQLite, whatever they are.
pub fn put_text(conn: &Connection, id: i64, column: &str, bytes: &[u8]) -> Result<()> {
    let statement = format!("update numeros set {column} = cast(?2 as text) where id = ?1");
    conn.execute(&statement, (id, bytes))?;
    Ok(())
}

/// Writes a database of the rows.
pub fn numeros(world: &World, name: &str, rows: &[Row]) -> Result<PathBuf> {
    let path = world.path(name);
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let mut conn = Connection::open(&path)?;
    conn.execute_batch(TABLE)?;
    insert(&mut conn, rows)?;
    Ok(path)
}

/// Adds rows. `campo1_original` is the number as it stands there, as in the real file.
pub fn insert(conn: &mut Connection, rows: &[Row]) -> Result<()> {
    let transaction = conn.transaction()?;
    for row in rows {
        transaction.execute(
            "insert into numeros (id, numero, campo1_original, nombre, direccion, colonia, municipio_cof, estado_cof,
                                  ciudad_por_lada, es_valido, fecha_migracion)
             values (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            rusqlite::params![
                row.id,
                row.numero,
                row.nombre,
                row.direccion,
                row.colonia,
                row.municipio,
                row.estado,
                row.ciudad,
                row.es_valido,
                row.fecha
            ],
        )?;
    }
    Ok(transaction.commit()?)
}

/// A copy of a database with only some of its rows.
pub fn part(from: &Path, to: &Path, condition: &str) -> Result<()> {
    std::fs::copy(from, to)?;
    let conn = Connection::open(to)?;
    conn.execute_batch(&format!("delete from numeros where not ({condition})"))?;
    Ok(())
}
