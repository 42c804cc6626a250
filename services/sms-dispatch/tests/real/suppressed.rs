//! Who must not be written to is out from the first moment, whatever else is under way.

use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::{TimeDelta, Utc};
use sea_orm::sqlx;
use sms_dispatch::{config::Keep, domain::suppression::Cause, storage::suppressions, upkeep::Upkeep};
use tokio_util::sync::CancellationToken;

use crate::{
    source::{Row, numeros},
    world::World,
};

/// Contacts whose suppression is in effect and who are not marked.
const OPEN: &str = "select count(*) from contacts c join suppressions s using (phone_e164)
                    where s.effective_at <= now() and c.opt_out_at is null";

async fn suppress(world: &World, numbers: &str) -> Result<()> {
    world
        .execute(&format!(
            "insert into suppressions (phone_e164, reason, effective_at, source)
             select '+526121' || lpad(n::text, 6, '0'), 'opt_out', now() - interval '1 day', 'sms'
             from generate_series({numbers}) n"
        ))
        .await
}

#[tokio::test]
async fn whoever_is_suppressed_is_marked_as_the_row_is_created() -> Result<()> {
    // Clean rows go straight into an empty table; all others are merged.
    for (name, spelled, full) in [("clean", "", false), ("respelled", "044", false), ("more", "", true)] {
        let world = World::new("smsborn").await?;
        if full {
            world.import(&numeros(&world, "lone.db", &[Row::new(1, "8009998877")])?).await?;
        }
        let rows: Vec<Row> = (0..3_000).map(|id| Row::new(id + 1, format!("{spelled}6121{id:06}"))).collect();
        let file = numeros(&world, "a.db", &rows)?.display().to_string();
        suppress(&world, "1000, 1009").await?;
        let mut seen = 0;
        for batches in 0..6 {
            // Each attempt dies after some more batches, before the end of the import has marked anybody.
            let args = ["import", &file, "--batch-size", "1000", "--workers", "1"];
            let command = world.command(&args)?;
            let point = format!("batch-committed={batches}*off->1*return");
            let (status, _) = command.env("FAILPOINTS", point).run().await?;
            let open = world.count(OPEN).await?;
            ensure!(open == 0, "{name}: {open} who are suppressed may be written to");
            seen += world.count("select count(*) from contacts where opt_out_at is not null").await?;
            if status.success() {
                break;
            }
        }
        let (status, _, said) =
            world.run(&["import", &file, "--batch-size", "1000", "--workers", "1"]).await?;
        ensure!(status.success(), "{said}");
        ensure!(seen > 0, "{name}: nobody was there while the import was broken off");
        ensure!(world.count("select count(*) from contacts where opt_out_at is not null").await? == 10);
        world.is_sound().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_restore_never_shows_anybody_who_is_suppressed() -> Result<()> {
    let world = World::new("smsrestored").await?;
    let rows: Vec<Row> = (0..200).map(|id| Row::new(id + 1, format!("6121{id:06}"))).collect();
    world.import(&numeros(&world, "a.db", &rows)?).await?;
    let dump = world.path("sms.dump").display().to_string();
    let (status, _, said) = world.run(&["contacts", "backup", &dump]).await?;
    ensure!(status.success(), "{said}");
    suppress(&world, "100, 109").await?;
    // It dies after its commit, before the first index is there.
    let command = world.command(&["contacts", "restore", &dump])?;
    let (status, _) = command.env("FAILPOINTS", "index-built=1*return").run().await?;
    ensure!(!status.success() && world.count("select count(*) from contacts").await? == 200);
    let open = world.count(OPEN).await?;
    ensure!(open == 0, "{open} who are suppressed may be written to");
    Ok(())
}

#[tokio::test]
async fn a_date_that_comes_waits_for_no_import() -> Result<()> {
    let world = World::new("smsdate").await?;
    world.import(&numeros(&world, "a.db", &[Row::new(1, "6121000001")])?).await?;
    // Whoever imports has this for hours.
    let mut turn = world.pool.acquire().await?;
    let lock = "select pg_advisory_lock(hashtext(current_schema() || '.contact imports'))";
    sqlx::query(lock).execute(&mut *turn).await?;
    let stop = CancellationToken::new();
    let keep =
        Keep { ledger_days: 730, inbound_days: 730, reports_days: 90, jobs_days: 30, audiences_days: 30 };
    let upkeep = Upkeep::new(world.pool.clone(), Duration::from_secs(1), keep);
    let upkeep = tokio::spawn(upkeep.run(stop.clone()));
    sqlx::query(
        "insert into suppressions (phone_e164, reason, effective_at, source)
         values ('+526121000001', 'repep', $1, 'repep.csv')",
    )
    .bind(Utc::now() + Duration::from_secs(2))
    .execute(&world.pool)
    .await?;
    stack::wait::until("the contact should be out", Duration::from_secs(20), async || {
        world
            .count("select count(*) from contacts where opt_out_at is not null")
            .await
            .is_ok_and(|out| out == 1)
    })
    .await?;
    stop.cancel();
    upkeep.await?;
    turn.close().await?;
    world.is_sound().await
}

#[tokio::test]
async fn who_is_suppressed_during_a_first_load_is_marked_at_its_end() -> Result<()> {
    let world = World::new("smssuppressed").await?;
    world.import(&numeros(&world, "a.db", &[Row::new(1, "6121000001")])?).await?;
    // As a first load puts it away.
    world.execute("drop index contacts_phone").await?;
    let new = suppressions::New {
        phone: "+526121000001".to_owned(),
        cause: Cause::OptOut,
        effective_at: Utc::now() - TimeDelta::days(1),
    };
    let mut transaction = world.pool.begin().await?;
    suppressions::turn(&mut transaction).await?;
    let added = suppressions::add(&mut transaction, &[new], "regulador", "ana").await?;
    transaction.commit().await?;
    ensure!((added.added, added.opted_out) == (1, 0), "all contacts were read for one phone: {added:?}");
    ensure!(world.count(OPEN).await? == 1);
    world.execute("create unique index contacts_phone on contacts (phone_e164)").await?;
    suppressions::apply(&world.pool).await?;
    ensure!(world.count(OPEN).await? == 0, "whoever was loaded is not marked");
    Ok(())
}
