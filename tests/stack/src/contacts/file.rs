//! The file: its schema and how it is filled.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, params};

use super::layout::Layout;
use super::numbers::Numbers;
use super::rows::{Batch, COLUMNS, Cell, Counts, Rows};
use super::{Spec, Truth};

const TABLES: &str = "
CREATE TABLE numeros (id INTEGER PRIMARY KEY AUTOINCREMENT, numero TEXT NOT NULL UNIQUE, campo1_original TEXT, nombre TEXT,
  campo3 TEXT, direccion TEXT, colonia TEXT, municipio_csv TEXT, estado_sep TEXT, municipio_sep TEXT, estado_cof TEXT,
  municipio_cof TEXT, lada TEXT, ciudad_por_lada TEXT, es_valido BOOLEAN DEFAULT 1, fecha_migracion TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE ladas_faltantes (lada TEXT PRIMARY KEY, cantidad_registros INTEGER, ejemplos_numeros TEXT, fecha_detectado TIMESTAMP);
CREATE TABLE estadisticas_migracion (id INTEGER PRIMARY KEY AUTOINCREMENT, total_procesados INTEGER, total_validos INTEGER,
  total_duplicados INTEGER, total_con_ciudad INTEGER, ladas_encontradas INTEGER, ladas_faltantes INTEGER,
  tiempo_procesamiento_segundos REAL, archivo_origen TEXT, fecha_migracion TIMESTAMP);
";

const INDEXED: [&str; 5] = ["fecha_migracion", "municipio_cof", "ciudad_por_lada", "lada", "numero"];

const INSERT: &str =
    "INSERT INTO numeros (numero, campo1_original, nombre, campo3, direccion, colonia, municipio_csv,
  estado_sep, municipio_sep, estado_cof, municipio_cof, lada, ciudad_por_lada, es_valido, fecha_migracion)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";

/// Rows made at once: small enough that a few batches wait in memory.
const BATCH: u64 = 4096;

/// Batches that a thread makes ahead of the writer.
const AHEAD: usize = 4;

pub(super) fn write(path: &Path, spec: &Spec, progress: impl FnMut(u64)) -> Result<Truth> {
    let layout = Layout::new(spec)?;
    let numbers = Numbers::new(layout.contacts)?;
    let mut truth = layout.truth();
    let ladas: Vec<_> = numbers.ladas().collect();
    let rows = Rows::new(layout, numbers, spec.dirt.clone(), spec.seed);

    let unfinished = unfinished(path);
    remove(&unfinished)?;
    let database =
        Connection::open(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
    database.execute_batch(&settings(spec.rows))?;
    database.execute_batch("BEGIN")?;
    database.execute_batch(TABLES)?;
    let counts = fill(&database, &rows, spec.rows, &mut truth, progress)?;
    // Each index reads the whole table: without copying it through the page cache of SQLite, whose size is also
    // that of the runs that its sorter sorts: small ones stay in the processor's caches.
    database.execute_batch("COMMIT; PRAGMA mmap_size = 1099511627776; PRAGMA cache_size = -16384; BEGIN")?;
    for column in INDEXED {
        database.execute_batch(&format!("CREATE INDEX idx_{column} ON numeros ({column})"))?;
    }
    let missing = ladas.iter().zip(&counts.by_lada).filter(|((_, known), rows)| !known && **rows > 0);
    for ((lada, _), rows) in missing {
        database.execute(
            "INSERT INTO ladas_faltantes VALUES (?1, ?2, (SELECT group_concat(numero, ', ')
               FROM (SELECT numero FROM numeros WHERE lada = ?1 ORDER BY id LIMIT 3)), '2022-03-31 23:59:59')",
            params![lada, *rows as i64],
        )?;
    }
    statistics(&database, &truth, &counts, &ladas)?;
    database.execute_batch("COMMIT")?;
    database.close().map_err(|(_, error)| error)?;
    fs::rename(&unfinished, path).with_context(|| format!("rename to {}", path.display()))?;
    Ok(truth)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Nothing of the file is worth keeping until it is whole; the index of `numero`, met at random, stays in memory.
fn settings(rows: u64) -> String {
    let cache_kib = (rows * 48 / 1024).clamp(65_536, 2_097_152);
    format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA cache_size = -{cache_kib}; PRAGMA threads = 2;"
    )
}

/// Writes all rows in their order, which other threads make.
fn fill(
    database: &Connection,
    rows: &Rows,
    count: u64,
    truth: &mut Truth,
    mut progress: impl FnMut(u64),
) -> Result<Counts> {
    let mut insert = database.prepare(INSERT)?;
    let batches = count.div_ceil(BATCH);
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64).min(4);
    let mut counts = Counts::default();
    thread::scope(|scope| {
        let mut made = Vec::new();
        for first in 0..threads {
            let (send, receive) = sync_channel(AHEAD);
            made.push(receive);
            scope.spawn(move || {
                for batch in (first..batches).step_by(threads as usize) {
                    let start = batch * BATCH;
                    if send.send(rows.batch(start, count.min(start + BATCH))).is_err() {
                        // The writer failed and says why.
                        return;
                    }
                }
            });
        }
        let mut written = 0;
        for receive in (0..batches).map(|batch| &made[(batch % threads) as usize]) {
            let batch = receive.recv().map_err(|_| anyhow!("a thread that makes rows has stopped"))?;
            write_batch(&mut insert, &batch)?;
            truth.unnamed += batch.truth.unnamed;
            truth.flagged += batch.truth.flagged;
            truth.damaged += batch.truth.damaged;
            truth.missing_lada += batch.truth.missing_lada;
            counts.with_city += batch.counts.with_city;
            counts.by_lada.resize(batch.counts.by_lada.len(), 0);
            counts.by_lada.iter_mut().zip(&batch.counts.by_lada).for_each(|(sum, rows)| *sum += rows);
            written += batch.rows.len() as u64;
            progress(written);
        }
        // Where the writer fails, its ends of the channels go and the threads stop.
        drop(made);
        Ok(counts)
    })
}

fn write_batch(insert: &mut Statement<'_>, batch: &Batch) -> Result<()> {
    for row in &batch.rows {
        let row: &[Cell; COLUMNS] = row;
        for (place, cell) in (1..).zip(row) {
            insert.raw_bind_parameter(place, Bound { cell: *cell, bytes: &batch.bytes })?;
        }
        insert.raw_execute()?;
    }
    Ok(())
}

/// A cell with the bytes that it is a part of.
struct Bound<'a> {
    cell: Cell,
    bytes: &'a [u8],
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let part = |start: u32, length: u32| &self.bytes[start as usize..(start + length) as usize];
        Ok(ToSqlOutput::Borrowed(match self.cell {
            Cell::Null => ValueRef::Null,
            Cell::Integer(number) => ValueRef::Integer(number),
            Cell::Real(number) => ValueRef::Real(number),
            Cell::Word(word) => ValueRef::Text(word.as_bytes()),
            Cell::Text { start, length } => ValueRef::Text(part(start, length)),
            Cell::Blob { start, length } => ValueRef::Blob(part(start, length)),
        }))
    }
}

/// As the file of origin has it: the count of rows with a city is a BLOB of eight little-endian bytes.
fn statistics(database: &Connection, truth: &Truth, counts: &Counts, ladas: &[(&str, bool)]) -> Result<()> {
    let with_rows = |known: bool| {
        let ladas = ladas.iter().zip(&counts.by_lada);
        ladas.filter(|((_, is_known), rows)| *is_known == known && **rows > 0).count() as i64
    };
    database.execute(
        "INSERT INTO estadisticas_migracion (total_procesados, total_validos, total_duplicados, total_con_ciudad,
           ladas_encontradas, ladas_faltantes, tiempo_procesamiento_segundos, archivo_origen, fecha_migracion)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1234.5, 'TELCEL2022.csv', '2022-03-31 23:59:59')",
        params![
            truth.rows as i64,
            (truth.rows - truth.rejects()) as i64,
            truth.merged as i64,
            &counts.with_city.to_le_bytes()[..],
            with_rows(true),
            with_rows(false)
        ],
    )?;
    Ok(())
}
