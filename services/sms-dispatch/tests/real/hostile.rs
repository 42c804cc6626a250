//! Sources that are not what they should be: a clear refusal, or exactly what can be made of them.

use anyhow::{Result, ensure};
use rusqlite::{Connection, types::Value};
use sea_orm::sqlx;
use sms_dispatch::cli::import::ImportRequest;
use stack::contacts::{self, Dirt, Spec};

use crate::{
    source::{Row, TABLE, insert, numeros, put_text},
    world::{World, request},
};

#[tokio::test]
async fn what_is_no_database_of_numbers_is_refused_and_leaves_nothing() -> Result<()> {
    let world = World::new("smshostile").await?;
    let good = numeros(&world, "good.db", &[Row::new(1, "6121004701")])?;
    let bytes = std::fs::read(&good)?;
    let database = |name: &str, statements: &str| -> Result<_> {
        let path = world.path(name);
        Connection::open(&path)?.execute_batch(statements)?;
        Ok(path)
    };
    let noise: Vec<u8> =
        (0..100_000_u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let cases = [
        (world.path("gone.db"), "gone.db can't be opened"),
        (world.folder.path().to_owned(), "can't be read: Is a directory"),
        (world.write("noise.db", noise)?, "no tiene una columna de teléfonos"),
        (world.write("empty.db", "")?, "El archivo está vacío"),
        (world.write("blank.csv", "\n\n\n")?, "El archivo está vacío"),
        (world.write("header.db", "SQLite format 3\0")?, "header.db"),
        (world.write("short.db", &bytes[..5_000])?, "short.db"),
        (database("other.db", "create table telefonos (numero text)")?, "other.db has no table numeros"),
        (
            database("lacks.db", "create table numeros (id integer primary key, numero text, nombre text)")?,
            "numeros has no column [\"campo1_original\", \"direccion\", \"colonia\", \"municipio_cof\", \"estado_cof\", \
             \"ciudad_por_lada\", \"es_valido\", \"fecha_migracion\"]",
        ),
        (
            database("texts.db", &TABLE.replace("id INTEGER PRIMARY KEY AUTOINCREMENT", "id TEXT"))?,
            "texts.db: numeros.id is no INTEGER PRIMARY KEY",
        ),
    ];
    for (file, told) in cases {
        for dry_run in [false, true] {
            let refused = world.refused(&ImportRequest { dry_run, ..request(&file) }).await?;
            ensure!(refused.contains(told), "{}: {refused}", file.display());
        }
    }
    std::fs::write(world.path("good.db-wal"), "something")?;
    let refused = world.refused(&request(&good)).await?;
    ensure!(refused.contains("good.db-wal holds changes") && refused.contains("wal_checkpoint"), "{refused}");
    std::fs::remove_file(world.path("good.db-wal"))?;
    ensure!(world.count("select count(*) from imports").await? == 0, "an import was begun");
    // An empty -wal holds nothing.
    std::fs::write(world.path("good.db-wal"), "")?;
    ensure!(world.import(&good).await?.1.created == 1);
    world.is_sound().await
}

#[tokio::test]
async fn a_database_that_lacks_pages_fails_with_its_name() -> Result<()> {
    let world = World::new("smstrunc").await?;
    let file = world.path("numeros.db");
    contacts::generate(&file, &Spec { rows: 20_000, seed: 1, dirt: Dirt::default() }, |_| ())?;
    let whole = std::fs::read(&file)?;
    for part in [0.2, 0.5, 0.95] {
        let bytes = &whole[..(whole.len() as f64 * part) as usize];
        let refused = world.refused(&request(&world.write("parte.db", bytes)?)).await?;
        ensure!(refused.contains("parte.db") && refused.contains("malformed"), "{part}: {refused}");
    }
    // What they left behind is no obstacle for the whole file.
    world.import(&file).await?;
    world.is_sound().await
}

#[tokio::test]
async fn ids_may_be_anywhere() -> Result<()> {
    let world = World::new("smsids").await?;
    let ids = [i64::MIN, i64::MIN + 1, -1_000_000, -1, 0, 1, 999, 1_000, 1 << 40, i64::MAX - 1, i64::MAX];
    let rows: Vec<Row> = (0..).zip(ids).map(|(at, id)| Row::new(id, format!("61210047{at:02}"))).collect();
    let file = numeros(&world, "numeros.db", &rows)?;
    let (import, report) = world.import(&file).await?;
    ensure!(report.created == 11 && report.sample.rows == 11, "{report:?}");
    let found: Vec<i64> = sqlx::query_scalar("select source_id from contacts order by source_id")
        .fetch_all(&world.pool)
        .await?;
    ensure!(found == ids, "{found:?}");
    ensure!(world.import(&file).await?.1.unchanged == 11);
    world.is_sound().await?;
    ensure!(import.mode.map(|mode| mode.name()) == Some("fast"));
    let only = world.import_as(&ImportRequest { limit: Some(4), ..request(&file) }).await?;
    ensure!(only.source_rows == Some(4), "{only:?}");
    Ok(())
}

#[tokio::test]
async fn numbers_that_are_not_unique_merge_and_numbers_of_other_types_are_read() -> Result<()> {
    let world = World::new("smstypes").await?;
    let loose = world.path("loose.db");
    let mut conn = Connection::open(&loose)?;
    conn.execute_batch(&TABLE.replace("numero TEXT NOT NULL UNIQUE", "numero"))?;
    let rows = [
        Row::new(1, "6121004701").nombre("ANA"),
        Row::new(2, "6121004701").nombre("BERTA").direccion("CALLE 2"),
        Row::new(3, 6_121_004_701_i64).nombre("CARLA"),
        Row::new(4, 6_121_004_702_i64),
        Row::new(5, Value::Real(6_121_004_703.0)),
        Row::new(6, Value::Null),
        Row::new(7, -5_i64),
        Row::new(8, Value::Blob(vec![0xff, 0xfe])),
    ];
    insert(&mut conn, &rows)?;
    drop(conn);
    let (_, report) = world.import(&loose).await?;
    let counts = (report.rows, report.created, report.merged, report.rejected);
    ensure!(counts == (8, 3, 2, 3), "{report:?}");
    let rejected: Vec<(i64, String)> =
        sqlx::query_as("select source_id, reason from contact_rejects order by 1")
            .fetch_all(&world.pool)
            .await?;
    let should = [(6, "phone_empty"), (7, "phone_too_short"), (8, "phone_bad_utf8")];
    ensure!(rejected.iter().map(|(id, reason)| (*id, reason.as_str())).eq(should), "{rejected:?}");
    ensure!(world.count("select source_id from contacts where phone_e164 = '+526121004701'").await? == 2);
    world.is_sound().await
}

#[tokio::test]
async fn damaged_texts_lose_only_what_can_not_be_kept() -> Result<()> {
    let world = World::new("smstext").await?;
    let rows: Vec<Row> = (1..=6).map(|id| Row::new(id, format!("612100470{id}")).nombre("ANA")).collect();
    let file = numeros(&world, "numeros.db", &rows)?;
    let conn = Connection::open(&file)?;
    put_text(&conn, 1, "nombre", b"AN\0A")?;
    put_text(&conn, 2, "nombre", b"PE\xd1A")?;
    put_text(&conn, 3, "nombre", "Ñ".repeat(400_000).as_bytes())?;
    put_text(&conn, 4, "direccion", b"\0\0")?;
    put_text(&conn, 5, "numero", b"61210\xff47")?;
    put_text(&conn, 6, "numero", &[b'6'; 1_000_000])?;
    drop(conn);
    let (_, report) = world.import(&file).await?;
    ensure!((report.created, report.rejected, report.repaired) == (4, 2, 4), "{report:?}");
    let found: Vec<(String, Option<String>)> =
        sqlx::query_as("select full_name, address from contacts order by source_id")
            .fetch_all(&world.pool)
            .await?;
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == ["ANA", "PE\u{fffd}A", &"Ñ".repeat(250), "ANA"], "{names:?}");
    ensure!(found.iter().all(|(_, address)| address.is_none()));
    let values: Vec<(String, String)> =
        sqlx::query_as("select value, reason from contact_rejects order by source_id")
            .fetch_all(&world.pool)
            .await?;
    ensure!(values[0] == ("61210\u{fffd}47".to_owned(), "phone_bad_utf8".to_owned()), "{values:?}");
    ensure!(values[1].0 == "6".repeat(100) && values[1].1 == "phone_too_long", "{values:?}");
    world.is_sound().await
}

#[tokio::test]
async fn flags_and_dates_of_every_kind() -> Result<()> {
    let world = World::new("smsflags").await?;
    let text = |text: &str| Value::Text(text.to_owned());
    let at = "2025-01-02T03:04:05+00:00";
    let cases: Vec<(Value, bool, Value, Option<&str>)> = vec![
        (Value::Null, true, Value::Null, None),
        (Value::Integer(1), true, text("2025-01-02 03:04:05"), Some(at)),
        (Value::Integer(0), false, text("2025-01-02T03:04:05Z"), Some(at)),
        (Value::Real(0.0), false, text("2025-01-01T21:04:05-06:00"), Some(at)),
        (text("0"), false, text("2025-01-02 03:04:05.000"), Some(at)),
        (text(" False "), false, Value::Integer(1_735_787_045), Some(at)),
        (text("NO"), false, text("2025-01-02"), Some("2025-01-02T00:00:00+00:00")),
        (text("sí"), true, Value::Real(2_460_677.5), Some("2025-01-02T00:00:00+00:00")),
        (Value::Blob(b"0".to_vec()), false, Value::Blob(b"2025-01-02 03:04:05".to_vec()), Some(at)),
        (Value::Blob(vec![]), true, text("ayer"), None),
        (Value::Integer(7), true, text("2025-02-30 00:00:00"), None),
        (text(""), true, text("9999-12-31 23:59:59"), None),
        (Value::Null, true, Value::Integer(i64::MIN), None),
        (Value::Null, true, Value::Real(f64::MAX), None),
    ];
    let rows: Vec<Row> = (1..)
        .zip(&cases)
        .map(|(id, (flag, _, date, _))| {
            Row::new(id, format!("61210047{id:02}")).valido(flag.clone()).fecha(date.clone())
        })
        .collect();
    let (_, report) = world.import(&numeros(&world, "numeros.db", &rows)?).await?;
    ensure!(report.repaired == 5, "{report:?}");
    let found: Vec<(bool, String, Option<String>)> = sqlx::query_as(
        "select is_valid, status, to_jsonb(migrated_at) #>> '{}' from contacts order by source_id",
    )
    .fetch_all(&world.pool)
    .await?;
    for ((flag, valid, date, time), found) in cases.iter().zip(&found) {
        let status = if *valid { "ACTIVE" } else { "INVALID" };
        let should = (*valid, status.to_owned(), time.map(str::to_owned));
        ensure!(*found == should, "{flag:?} and {date:?} became {found:?}");
    }
    ensure!(found.len() == cases.len());
    world.is_sound().await
}
