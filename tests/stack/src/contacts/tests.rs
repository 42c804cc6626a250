//! A small file has the schema, the content and the truth that it should.

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::*;

const ROWS: u64 = 60_000;

fn spec(seed: u64) -> Spec {
    Spec { rows: ROWS, seed, dirt: Dirt { damaged: 0.01, blobs: 0.01, ..Dirt::default() } }
}

fn open(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
}

fn count(database: &Connection, condition: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM numeros WHERE {condition}");
    let count: i64 = database.query_row(&sql, [], |row| row.get(0)).expect(&sql);
    count.unsigned_abs()
}

/// All rows in one text, blobs and damaged bytes included.
fn content(path: &Path) -> Vec<String> {
    let database = open(path);
    let mut rows = Vec::new();
    for table in ["numeros", "ladas_faltantes", "estadisticas_migracion"] {
        let mut query = database.prepare(&format!("SELECT * FROM {table} ORDER BY 1")).expect("a table");
        let columns = query.column_count();
        let all = query.query_map([], |row| {
            (0..columns)
                .map(|column| Ok(format!("{:?}", row.get_ref(column)?)))
                .collect::<rusqlite::Result<String>>()
        });
        rows.extend(all.expect("rows").map(|row| row.expect("a row")));
    }
    rows
}

#[test]
fn a_file_has_the_schema_and_the_rows_of_the_truth() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("numeros.db");
    let mut told = Vec::new();
    let truth = generate(&path, &spec(1), |rows| told.push(rows)).expect("a file");

    assert!(told.is_sorted() && told.last() == Some(&ROWS), "{told:?}");
    assert_eq!(truth.rows, ROWS);
    assert_eq!(truth.rows, truth.contacts + truth.merged + truth.rejects());
    assert_eq!(truth.rejected.len(), Reject::ALL.len());
    assert!(
        truth.merged > 200 && truth.changed > 1800 && truth.unnamed > 400 && truth.missing_lada > 500,
        "{truth:?}"
    );

    let database = open(&path);
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(check, "ok");
    let mut query = database
        .prepare(
            "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY 1",
        )
        .expect("the schema");
    let indexes = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
    let indexes: Vec<_> = indexes.expect("indexes").map(|index| index.expect("an index")).collect();
    assert_eq!(indexes.len(), 5, "{indexes:?}");
    assert!(indexes.iter().all(|(_, table)| table == "numeros"));

    assert_eq!(count(&database, "true"), ROWS);
    assert_eq!(count(&database, "id BETWEEN 1 AND 60000"), ROWS);
    assert_eq!(count(&database, "typeof(numero) <> 'text'"), 0);
    assert!(count(&database, "typeof(nombre) = 'blob'") > 400);
    assert!(count(&database, "instr(CAST(nombre AS BLOB), x'00') > 0") > 100);
    assert!(count(&database, "instr(CAST(nombre AS BLOB), x'ff') > 0") > 100);
    for form in ["null", "integer", "real"] {
        assert!(count(&database, &format!("typeof(fecha_migracion) = '{form}'")) > 200, "{form}");
    }
    assert_eq!(count(&database, "estado_cof = 'BCS' AND lada NOT IN ('612', '624')"), 0);
    assert!(count(&database, "nombre LIKE 'MARIA %'") > count(&database, "nombre LIKE 'EUFROSINA %'") * 20);

    let blob: Vec<u8> = database
        .query_row("SELECT total_con_ciudad FROM estadisticas_migracion", [], |row| row.get(0))
        .expect("a BLOB");
    let with_city = u64::from_le_bytes(blob.try_into().expect("eight bytes"));
    assert_eq!(with_city, count(&database, "ciudad_por_lada IS NOT NULL"));
    let missing: i64 = database
        .query_row("SELECT sum(cantidad_registros) FROM ladas_faltantes", [], |row| row.get(0))
        .expect("a sum");
    assert_eq!(missing.unsigned_abs(), count(&database, "lada IN (SELECT lada FROM ladas_faltantes)"));
    assert!(missing.unsigned_abs() >= truth.missing_lada);
}

#[test]
fn the_seed_decides_the_content() {
    let folder = TempDir::new().expect("a folder");
    let make = |name: &str, seed| {
        let path = folder.path().join(name);
        let truth = generate(&path, &Spec { rows: 5000, ..spec(seed) }, |_| ()).expect("a file");
        (truth, content(&path))
    };
    let first = make("a.db", 1);
    assert_eq!(first, make("b.db", 1));
    assert_ne!(first.1, make("c.db", 2).1);
    // An existing file is replaced.
    assert_eq!(first, make("c.db", 1));
}

#[test]
fn clean_files_and_impossible_ones() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("numeros.db");
    let clean = generate(&path, &Spec { rows: 1000, seed: 3, dirt: Dirt::none() }, |_| ()).expect("a file");
    assert_eq!((clean.contacts, clean.merged, clean.changed, clean.rejects()), (1000, 0, 0, 0));
    let dirt = Dirt { unnamed: 0.1, flagged: 0.2, ..Dirt::none() };
    let truth = generate(&path, &Spec { rows: 1000, seed: 3, dirt }, |_| ()).expect("a file");
    assert_eq!(truth.unnamed, count(&open(&path), "trim(coalesce(nombre, '')) = ''"));
    assert_eq!(truth.flagged, count(&open(&path), "es_valido = 0"));
    assert!(truth.unnamed > 50 && truth.flagged > 100, "{truth:?}");
    let empty = generate(&path, &Spec::default(), |_| ()).expect("a file without rows");
    assert_eq!(empty, Truth::default());
    let dirt = Dirt { legacy: 0.8, twins: 0.3, ..Dirt::none() };
    assert!(generate(&path, &Spec { rows: 1000, seed: 3, dirt }, |_| ()).is_err());
}
