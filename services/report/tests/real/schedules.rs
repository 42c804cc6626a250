//! What schedules begin, by a clock that a test holds.

use anyhow::{Result, ensure};
use chassis::clock::Clock;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use report::{domain::params::Params, scheduler::BeginRuns};
use schedules::{Missed, Schedule, Scheduler};
use sea_orm::sqlx;
use uuid::Uuid;

use crate::world::{World, day};

fn at(text: &str) -> Result<DateTime<Utc>> {
    Ok(text.parse()?)
}

fn scheduler(world: &World, clock: Clock) -> Scheduler<BeginRuns> {
    Scheduler::new(world.pool.clone(), clock, BeginRuns { resources: world.resources.clone() })
}

/// Every day at six in Bogotá, which is eleven in UTC; due since the 25th.
async fn daily(world: &World, missed: Missed) -> Result<Uuid> {
    let schedule = Schedule {
        id: Uuid::now_v7(),
        cron: "0 6 * * *".to_owned(),
        zone: "America/Bogota".to_owned(),
        missed,
        params: serde_json::to_value(Params::default())?,
        active: true,
        next_at: at("2025-01-25T11:00:00Z")?,
        last_at: None,
        last_run: None,
        last_error: None,
        created_by: "ana".to_owned(),
        created_at: Utc::now(),
        version: 1,
    };
    Ok(schedules::put(&world.resources.database.orm, schedule).await?.id)
}

/// The days of which runs were asked for.
async fn days(world: &World) -> Result<Vec<NaiveDate>> {
    Ok(sqlx::query_scalar("select fecha from runs order by fecha").fetch_all(&world.pool).await?)
}

/// A service that was away from the 25th to the 28th at half past six.
async fn missed(label: &str, missed: Missed) -> Result<(World, Schedule, Vec<NaiveDate>)> {
    let world = World::new(label).await?;
    // The 26th has no campaign.
    for fecha in ["2025-01-24", "2025-01-25", "2025-01-27"] {
        world.campaign(day(fecha)?, fecha, 1).await?;
    }
    let id = daily(&world, missed).await?;
    let clock = Clock::fixed(at("2025-01-28T11:30:00Z")?);
    let (one, other) = (scheduler(&world, clock.clone()), scheduler(&world, clock));
    // Of two processes that look at once, one finds it.
    let (one_had, other_had) = tokio::try_join!(one.turn(), other.turn())?;
    ensure!(one_had != other_had, "{one_had} and {other_had}");
    ensure!(!one.turn().await?, "it had its turn");
    let schedule = schedules::get(&world.resources.database.orm, id)
        .await?
        .ok_or_else(|| anyhow::anyhow!("no schedule"))?;
    ensure!(schedule.active && schedule.next_at == at("2025-01-29T11:00:00Z")?, "{schedule:?}");
    let days = days(&world).await?;
    Ok((world, schedule, days))
}

#[tokio::test]
async fn what_was_missed_is_skipped() -> Result<()> {
    let (world, schedule, days) = missed("reportskip", Missed::Skip).await?;
    ensure!(days.is_empty() && schedule.last_run.is_none(), "{days:?}, {schedule:?}");
    // The next one is not.
    world.campaign(day("2025-01-28")?, "2025-01-28", 1).await?;
    let clock = Clock::fixed(at("2025-01-29T10:59:59Z")?);
    let scheduler = scheduler(&world, clock.clone());
    ensure!(!scheduler.turn().await?, "before its time");
    clock.advance(TimeDelta::seconds(1));
    ensure!(scheduler.turn().await?, "at its time");
    ensure!(self::days(&world).await? == [day("2025-01-28")?]);
    Ok(())
}

#[tokio::test]
async fn or_the_last_is_made_up_for() -> Result<()> {
    let (_world, schedule, days) = missed("reportlast", Missed::Last).await?;
    ensure!(days == [day("2025-01-27")?], "{days:?}");
    ensure!(schedule.last_at == Some(at("2025-01-28T11:00:00Z")?) && schedule.last_error.is_none());
    Ok(())
}

#[tokio::test]
async fn or_all_are_and_a_day_without_campaigns_is_told() -> Result<()> {
    let (_world, schedule, days) = missed("reportall", Missed::All).await?;
    ensure!(days == [day("2025-01-24")?, day("2025-01-25")?, day("2025-01-27")?], "{days:?}");
    ensure!(
        schedule.last_error.as_deref() == Some("No se encontraron campañas para la fecha 2025-01-26"),
        "{schedule:?}"
    );
    ensure!(schedule.last_run.is_some(), "{schedule:?}");
    Ok(())
}
