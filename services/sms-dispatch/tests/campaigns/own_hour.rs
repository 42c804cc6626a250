//! Campaigns that go by their recipients' own clocks.

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::America;
use sea_orm::sqlx;
use sms_dispatch::{
    campaign_preview::preview,
    domain::{campaign::Kind, windows::Clocks},
    storage::{campaigns::Campaign, slices},
};

use crate::world::World;

/// A draft to people of Quintana Roo, where the hour has just come, and of Sonora and Baja California Sur, where it comes two
/// hours later.
async fn draft(world: &World) -> Result<Campaign> {
    world.contacts(30).await?;
    world.execute("update contacts set state_code = 'QROO' where source_id % 3 = 2").await?;
    let draft = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    let there = Utc::now().with_timezone(&America::Cancun);
    let minute = there.hour() * 60 + there.minute();
    let day = there.date_naive();
    let hour =
        format!("update campaigns set own_date = '{day}', own_minute = {minute} where id = '{}'", draft.id);
    world.execute(&hour).await?;
    world.campaign(draft.id).await
}

#[tokio::test]
async fn each_zones_slices_are_due_when_it_is_that_hour_there() -> Result<()> {
    let world = World::new("ownhour").await?;
    let draft = draft(&world).await?;
    let later = Utc::now() + TimeDelta::minutes(118);
    let told = preview(&world.pool, &world.settings, &draft).await?;
    ensure!(told.ends_at.is_some_and(|ends| ends > later), "{told:?}");

    let mut transaction = world.pool.begin().await?;
    sms_dispatch::start_campaign::start_campaign(
        &mut transaction,
        &draft,
        "schedule",
        None,
        "https://lote.mx",
    )
    .await?;
    transaction.commit().await?;
    world.prepare().await?;
    let due: Vec<(i16, DateTime<Utc>, Option<String>)> =
        sqlx::query_as("select zone, due_at, reason from slices order by zone")
            .fetch_all(&world.pool)
            .await?;
    let zones: Vec<i16> = due.iter().map(|(zone, ..)| *zone).collect();
    ensure!(zones == [Clocks::Southeast, Clocks::Pacific, Clocks::Sonora].map(Clocks::code), "{due:?}");
    ensure!(due[0].1 <= Utc::now() && due[0].2.is_none(), "{due:?}");
    ensure!(due[1..].iter().all(|(_, at, why)| *at > later && why.as_deref() == Some("horario")), "{due:?}");

    let accepted = || world.provider.accepted().len();
    world.until("ten should be written to", async || anyhow::Ok(accepted() >= 10)).await?;
    world.round().await?;
    world.send().await?;
    ensure!(accepted() == 10, "{}", accepted());
    let waits = slices::waits(&world.pool, draft.number).await?;
    ensure!(waits.len() == 2 && waits.iter().all(|wait| wait.due.is_some_and(|at| at > later)), "{waits:?}");
    let reasons: Vec<_> = waits.iter().filter_map(|wait| wait.reason.as_deref()).collect();
    ensure!(reasons == ["horario", "horario"], "{waits:?}");

    // Two hours have passed.
    let frozen = world.campaign(draft.id).await?.frozen.context("a started campaign")?;
    ensure!(frozen.own_hour == draft.own_hour() && frozen.own_hour.is_some());
    world
        .execute(
            "update campaigns set frozen = jsonb_set(frozen, '{own_hour,date}', to_jsonb((own_date - 1)::text));
             update slices set due_at = due_at - interval '1 day'",
        )
        .await?;
    world.finish(draft.id).await?;
    ensure!(world.provider.accepted().len() == 30);
    world.is_sound().await
}
