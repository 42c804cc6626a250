//! A dry run tells exactly what the import then does, and writes nothing.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sms_dispatch::cli::import::ImportRequest;
use stack::contacts::{self, Dirt, Spec};

use crate::{
    picture::{self, ALL, CONTENT},
    world::{World, report, request, settings},
};

fn generate(world: &World, name: &str, rows: u64, seed: u64) -> Result<()> {
    let dirt = Dirt { twins: 0.05, dirty_twins: 0.05, rejects: 0.003, blobs: 0.01, ..Dirt::default() };
    contacts::generate(&world.path(name), &Spec { rows, seed, dirt }, |_| ()).map(drop)
}

/// Runs dry, then in earnest, and compares.
async fn foretold(world: &World, request: ImportRequest) -> Result<()> {
    let before = picture::take(&world.pool, ALL).await?;
    let dry = world.import_as(&ImportRequest { dry_run: true, ..request.clone() }).await?;
    picture::same(&before, &picture::take(&world.pool, ALL).await?)?;
    for table in ["contact_rejects", "contact_merges", "contact_changes", "import_staged", "import_batches"] {
        let rows = format!("select count(*) from {table} where import = {}", dry.number);
        ensure!(world.count(&rows).await? == 0, "the dry run wrote {table}");
    }
    let told = dry.report.context("a forecast")?;
    let done = report(&world.import_as(&request).await?)?;
    // What a contact knows already is not looked at: whether it changes is not told, only that it is there.
    let should = json!({
        "dry_run": true,
        "rows": done.rows,
        "created": done.created,
        "known": done.updated + done.unchanged,
        "merged": done.merged,
        "rejected": done.rejected,
        "rejected_by_reason": done.rejected_by_reason,
        "repaired": done.repaired,
    });
    ensure!(told == should, "told {told}, came to {should}");
    world.is_sound().await
}

#[tokio::test]
async fn a_dry_run_is_what_the_import_then_does() -> Result<()> {
    let world = World::new("smsdry").await?;
    generate(&world, "a.db", 6_000, 3)?;
    generate(&world, "b.db", 9_000, 4)?;
    let (a, b) = (request(&world.path("a.db")), request(&world.path("b.db")));
    foretold(&world, ImportRequest { limit: Some(2_345), ..a.clone() }).await?;
    foretold(&world, a).await?;
    foretold(&world, ImportRequest { limit: Some(4_000), ..b.clone() }).await?;
    foretold(&world, b).await?;
    let empty = World::new("smsdry").await?;
    generate(&empty, "a.db", 6_000, 3)?;
    foretold(&empty, request(&empty.path("a.db"))).await?;
    // A CSV file keeps no phones apart.
    let csv = World::new("smsdry").await?;
    let rows = "numero,nombre\n6121004701,ANA\n+526121004701,\n6121004701,BERTA\nx,NADIE\n6121004702,\n";
    foretold(&csv, request(&csv.write("a.csv", rows)?)).await?;
    let more = format!("{rows}6121004703,CARLA\n");
    foretold(&csv, request(&csv.write("b.csv", more)?)).await
}

#[tokio::test]
async fn neither_batches_nor_workers_change_what_comes_of_it() -> Result<()> {
    let mut should = None;
    for (batch, workers, builders) in [(1_000, 1, 1), (1_357, 5, 3), (1_000_000, 2, 2)] {
        let world = World::new("smsbatch").await?;
        generate(&world, "a.db", 5_000, 5)?;
        let request =
            ImportRequest { batch_size: Some(batch), workers: Some(workers), ..request(&world.path("a.db")) };
        let mut settings = settings();
        settings.index_builders = builders;
        let import = world.import_with(settings, &request).await?;
        let batches = world.count("select count(*) from import_batches where phase = 'load'").await?;
        // Rows have the ids from 1 on, and a batch begins where its size divides the id.
        ensure!(batches == 5_000 / batch + 1, "{batches} batches of {batch}");
        ensure!(import.options.batch_size == Some(batch), "{import:?}");
        let picture = picture::take(&world.pool, CONTENT).await?;
        let should = should.get_or_insert_with(|| picture.clone());
        picture::same(should, &picture)?;
        world.is_sound().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_is_the_first_rows_by_id() -> Result<()> {
    let world = World::new("smslimit").await?;
    generate(&world, "a.db", 3_000, 6)?;
    let limited = async |limit: u64| -> Result<(i64, Option<i64>)> {
        let import = world
            .import_as(&ImportRequest { limit: Some(limit), ..request(Path::new(&world.path("a.db"))) })
            .await?;
        let last = "select coalesce(max(source_id), 0) from (select source_id from contacts
                    union all select source_id from contact_rejects union all select source_id from contact_merges) r";
        Ok((world.count(last).await?, import.source_rows))
    };
    ensure!(limited(0).await? == (0, Some(0)));
    ensure!(limited(1).await? == (1, Some(1)));
    ensure!(limited(1_000).await? == (1_000, Some(1_000)));
    ensure!(limited(99_999).await? == (3_000, Some(3_000)));
    world.is_sound().await
}
