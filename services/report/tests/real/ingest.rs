//! Messages and campaigns as their events bring them: again, late, two at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Result, anyhow, ensure};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use report::storage::{
    campaigns::{self, CampaignUpdate, Origin},
    doctor,
    messages::{self, Written},
};
use sea_orm::sqlx::{self, PgPool};

use crate::world::{World, day, message};

/// What one event tells: numbers of messages, with their versions.
type Event = BTreeMap<u32, i64>;

/// Delivers events one after the other, as one worker does.
async fn deliver(pool: PgPool, campaign: i64, events: Vec<Event>) -> Result<()> {
    let mut conn = pool.acquire().await?;
    for event in events {
        let messages: Vec<_> = event.iter().map(|(number, version)| message(*number, *version)).collect();
        let written = messages::write(&mut conn, campaign, day("2025-01-27")?, &messages).await?;
        ensure!(written != Written::NoCampaign, "the campaign is there");
    }
    Ok(())
}

async fn check(world: &World, name: &str, one: Vec<Event>, other: Vec<Event>) -> Result<()> {
    let campaign = world.campaign(day("2025-01-27")?, name, 0).await?;
    let mut newest = Event::new();
    for (number, version) in one.iter().chain(&other).flatten() {
        let known = newest.entry(*number).or_insert(*version);
        *known = (*known).max(*version);
    }
    // Each worker gets what the other has had, too.
    let all = |first: &[Event], second: &[Event]| first.iter().chain(second).cloned().collect::<Vec<_>>();
    let (mine, theirs) = (all(&one, &other), all(&other, &one));
    tokio::try_join!(
        deliver(world.pool.clone(), campaign, mine),
        deliver(world.pool.clone(), campaign, theirs)
    )?;
    let rows: BTreeSet<(String, String, i64)> =
        sqlx::query_as("select telefono, mensaje, version from ta_sms_detalle where id_maestro = $1")
            .bind(campaign)
            .fetch_all(&world.pool)
            .await?
            .into_iter()
            .collect();
    let should: BTreeSet<_> = newest
        .iter()
        .map(|(number, version)| message(*number, *version))
        .map(|row| (row.phone, row.text, row.version))
        .collect();
    ensure!(rows == should, "{rows:?} and not {should:?}");
    let count = async || -> sqlx::Result<(i64, i64)> {
        sqlx::query_as("select filas, cambios from ta_sms_maestro where id = $1")
            .bind(campaign)
            .fetch_one(&world.pool)
            .await
    };
    let (rows, changes) = count().await?;
    ensure!(rows == i64::try_from(should.len())?, "{rows} rows are counted, {} are there", should.len());
    // What is told again changes nothing: the day's reports still hold.
    deliver(world.pool.clone(), campaign, all(&one, &other)).await?;
    ensure!(count().await? == (rows, changes), "{:?} after {rows}, {changes}", count().await?);
    Ok(())
}

#[test]
fn of_each_message_the_newest_version_stays_whatever_the_order() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let world = runtime.block_on(World::new("reportorder"))?;
    let number = AtomicUsize::new(0);
    let event = || prop::collection::btree_map(0..60_u32, 1..8_i64, 1..40);
    let events = || prop::collection::vec(event(), 0..12);
    let config = Config { cases: 48, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&(events(), events()), |(one, other)| {
        let name = format!("C{}", number.fetch_add(1, Ordering::Relaxed));
        runtime
            .block_on(check(&world, &name, one, other))
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    checked.map_err(|error| anyhow!("{error}"))?;
    let findings = runtime.block_on(doctor::doctor(&world.pool))?;
    ensure!(findings.is_empty(), "{findings:#?}");
    // Its pool belongs to the runtime.
    runtime.block_on(async { drop(world) });
    Ok(())
}

#[tokio::test]
async fn of_a_campaign_too_and_origins_do_not_meet() -> Result<()> {
    let world = World::new("reportorigin").await?;
    let mut conn = world.pool.acquire().await?;
    let told = |version: i64, nombre: &str, fecha: &str| -> Result<CampaignUpdate> {
        Ok(CampaignUpdate {
            origin_id: "7".to_owned(),
            fecha: day(fecha)?,
            nombre: nombre.to_owned(),
            estado: "EN PROCESO".to_owned(),
            descripcion: String::new(),
            expected_rows: Some(10),
            version,
        })
    };
    // Its rows came first: all that is known is its day.
    let first = campaigns::known(&mut conn, Origin::Sms, "7", day("2025-01-27")?).await?;
    campaigns::write(&mut conn, Origin::Sms, &[told(3, "Tres", "2025-01-27")?]).await?;
    ensure!(campaigns::write(&mut conn, Origin::Sms, &[told(2, "Dos", "2025-01-27")?]).await? == 0);
    ensure!(campaigns::write(&mut conn, Origin::Sms, &[told(3, "Otra vez", "2025-01-27")?]).await? == 0);
    campaigns::write(&mut conn, Origin::Load, &[told(1, "Cargada", "2025-01-26")?]).await?;
    let (loaded, fecha) = campaigns::known(&mut conn, Origin::Load, "7", day("2025-01-01")?).await?;
    ensure!(loaded != first.0 && fecha == day("2025-01-26")?, "{loaded} of {fecha}");
    // A day that changed would leave its rows in another partition.
    campaigns::write(&mut conn, Origin::Sms, &[told(4, "Cuatro", "2025-01-29")?]).await?;
    ensure!(campaigns::known(&mut conn, Origin::Sms, "7", day("2025-01-29")?).await? == first);
    let names = campaigns::of_day(&world.resources.database.orm, day("2025-01-27")?).await?;
    ensure!(names.len() == 1 && names[0].nombre == "Cuatro" && names[0].id == first.0, "{names:?}");
    Ok(())
}
