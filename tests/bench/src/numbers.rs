//! Databases of numbers to import, and files of changes to what was imported.

use anyhow::{Context, Result};
use sea_orm::sqlx::{self, PgPool};
use stack::contacts::{Dirt, Spec, Truth, generate};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// How many rows of a table of contacts change at once.
const CHANGED: i64 = 100_000;

/// How many rows `ROWS` says: 1,000,000 unless told.
pub fn rows() -> Result<u64> {
    match std::env::var("ROWS") {
        Ok(rows) => {
            rows.replace('_', "").parse().with_context(|| format!("ROWS is {rows:?}, expected a number"))
        }
        Err(_) => Ok(1_000_000),
    }
}

/// Makes `numeros.db` with so many rows.
pub async fn database(file: &Path) -> Result<Truth> {
    let rows = rows()?;
    let began = Instant::now();
    let truth = tokio::task::spawn_blocking({
        let (file, spec) = (file.to_owned(), Spec { rows, seed: 1, dirt: Dirt::default() });
        move || generate(&file, &spec, |_| {})
    })
    .await??;
    eprintln!("{rows} rows generated in {:.0} s", began.elapsed().as_secs_f64());
    Ok(truth)
}

/// Writes a CSV file of contacts that are there, each with another address, drawn over the whole table. Returns how many.
pub async fn changes(pool: &PgPool, path: &Path) -> Result<usize> {
    let some: Vec<(String, Option<String>)> = sqlx::query_as(
        "select phone_e164, full_name from contacts
         where id % greatest((select max(id) from contacts) / $1, 1) = 0 order by id limit $1",
    )
    .bind(CHANGED)
    .fetch_all(pool)
    .await?;
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "numero,nombre,direccion")?;
    for (row, (phone, name)) in some.iter().enumerate() {
        let name = name.as_deref().unwrap_or_default().replace('"', "\"\"");
        writeln!(file, "{phone},\"{name}\",\"AVENIDA NUEVA {row}\"")?;
    }
    file.into_inner()?.sync_all()?;
    Ok(some.len())
}
