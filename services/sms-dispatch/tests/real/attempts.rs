//! Jobs that fail for good end; those that get on a little with each attempt don't run out of attempts.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    source::{Row, numeros},
    world::{World, request},
};

async fn file(world: &World) -> Result<std::path::PathBuf> {
    let rows: Vec<Row> = (1..=40).map(|n| Row::new(n, format!("55512340{n:02}")).nombre("ANA")).collect();
    numeros(world, "a.db", &rows)
}

#[tokio::test]
async fn an_import_whose_indexes_can_t_be_built_fails_after_its_attempts() -> Result<()> {
    let world = World::new("smsattempts").await?;
    let file = file(&world).await?;
    // What the words of names and addresses are taken from; nothing else of an import calls it.
    world
        .execute(
            "alter function words(text) rename to words_before;
             create function words(given text) returns text language plpgsql immutable as
             $$ begin raise exception 'no index today'; end $$",
        )
        .await?;
    let refused = tokio::time::timeout(Duration::from_secs(240), world.refused(&request(&file))).await;
    let attempts = world.count("select epoch from jobs").await?;
    ensure!(refused.is_ok(), "it is tried for ever: {attempts} attempts");
    ensure!(refused??.contains("no index today"));
    // The first came as far as to the indexes; three in a row came no further.
    ensure!(attempts == 4, "{attempts} attempts");
    ensure!(world.count("select count(*) from jobs where state = 'failed' and attempts = 3").await? == 1);
    Ok(())
}

#[tokio::test]
async fn an_import_whose_workers_die_after_each_index_ends_all_the_same() -> Result<()> {
    let world = World::new("smsindexes").await?;
    let file = file(&world).await?.display().to_string();
    let mut deaths = 0;
    loop {
        let command = world.command(&["import", &file])?;
        let command = command.env("CONTACTS_MAX_ATTEMPTS", "2").env("CONTACTS_INDEX_BUILDERS", "1");
        let (status, _) = command.env("FAILPOINTS", "index-built=1*return").run().await?;
        if status.success() {
            break;
        }
        deaths += 1;
        let failed = world.count("select count(*) from jobs where state = 'failed'").await?;
        ensure!(failed == 0 && deaths <= 20, "after {deaths} deaths, {failed} failed");
    }
    ensure!(deaths > 4, "only {deaths} deaths");
    world.is_sound().await
}
