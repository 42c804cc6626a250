//! 100,000 changed rows into the full table.

use super::Arena;
use crate::{figure::Figure, numbers};
use anyhow::{Result, ensure};

/// `merge_100k`.
pub async fn measure(arena: &Arena) -> Result<()> {
    let path = arena.dir.join("changed.csv");
    let changed = numbers::changes(&arena.pool, &path).await?;
    let imported = arena.import(&path).await?;
    let report = &imported.report;
    ensure!(report["updated"] == changed, "{report}");
    Figure::new("contacts", "merge_100k", imported.seconds(&["load", "merge"]), "s")
        .n(changed)
        .number("whole_import_s", imported.took.as_secs_f64())
        .print();
    Ok(())
}
