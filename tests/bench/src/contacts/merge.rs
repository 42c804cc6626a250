//! 100,000 changed rows into the full table.

use super::Arena;
use crate::figure::Figure;
use anyhow::{Result, ensure};
use sea_orm::sqlx;
use std::fs::File;
use std::io::{BufWriter, Write};

const ROWS: i64 = 100_000;

/// `merge_100k`: a CSV file of contacts that are there, each with another address, drawn over the whole table.
pub async fn measure(arena: &Arena) -> Result<()> {
    let some: Vec<(String, Option<String>)> = sqlx::query_as(
        "select phone_e164, full_name from contacts
         where id % greatest((select max(id) from contacts) / $1, 1) = 0 order by id limit $1",
    )
    .bind(ROWS)
    .fetch_all(&arena.pool)
    .await?;
    let path = arena.dir.join("changed.csv");
    let mut file = BufWriter::new(File::create(&path)?);
    writeln!(file, "numero,nombre,direccion")?;
    for (row, (phone, name)) in some.iter().enumerate() {
        let name = name.as_deref().unwrap_or_default().replace('"', "\"\"");
        writeln!(file, "{phone},\"{name}\",\"AVENIDA NUEVA {row}\"")?;
    }
    file.into_inner()?.sync_all()?;
    let imported = arena.import(&path).await?;
    let report = &imported.report;
    ensure!(report["updated"] == some.len(), "{report}");
    Figure::new("contacts", "merge_100k", imported.seconds(&["load", "merge"]), "s")
        .n(some.len())
        .number("whole_import_s", imported.took.as_secs_f64())
        .print();
    Ok(())
}
