//! What schedules begin, by a clock that a test holds.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use chassis::clock::Clock;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use report::{domain::params::Params, scheduler::BeginRuns};
use schedules::{Begin, Begun, Missed, Schedule, Scheduler, Timetable, http::NewSchedule};
use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgPool, postgres::PgPoolOptions};
use stack::wait;
use uuid::Uuid;

use crate::{
    retention::put,
    world::{World, day},
};

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
        waiting_since: None,
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

/// Begins nothing for as long as the table `under_way` is there.
struct AfterAnother;

#[async_trait]
impl Begin for AfterAnother {
    async fn begin(
        &self,
        conn: &mut PgConnection,
        _: &Schedule,
        _: &Timetable,
        _: DateTime<Utc>,
    ) -> Result<Begun> {
        let under_way: bool =
            sqlx::query_scalar("select to_regclass('under_way') is not null").fetch_one(conn).await?;
        Ok(if under_way { Begun::Wait } else { Begun::Nothing("Era su hora".to_owned()) })
    }
}

#[tokio::test]
async fn a_time_that_is_waited_for_is_not_missed_whatever_its_schedule_says() -> Result<()> {
    let world = World::new("reportwaits").await?;
    let id = daily(&world, Missed::Skip).await?;
    let schedule =
        || async { schedules::get(&world.resources.database.orm, id).await?.context("the schedule") };
    sqlx::query("create table under_way ()").execute(&world.pool).await?;
    let clock = Clock::fixed(at("2025-01-25T11:00:10Z")?);
    let scheduler = Scheduler::new(world.pool.clone(), clock.clone(), AfterAnother);
    ensure!(scheduler.round().await? == 0, "it waits");
    let waiting = schedule().await?;
    ensure!(waiting.waiting_since == Some(at("2025-01-25T11:00:10Z")?), "{waiting:?}");
    ensure!(waiting.last_error.is_some(), "nobody is told that it waits: {waiting:?}");

    clock.advance(TimeDelta::minutes(3));
    ensure!(scheduler.round().await? == 0);
    ensure!(schedule().await?.waiting_since == waiting.waiting_since, "it has waited since it began to");

    // Words are for people.
    sqlx::query("update schedules set last_error = 'En espera'").execute(&world.pool).await?;
    sqlx::query("drop table under_way").execute(&world.pool).await?;
    clock.advance(TimeDelta::minutes(30));
    ensure!(scheduler.round().await? == 1);
    let acted = schedule().await?;
    ensure!(acted.last_at == Some(at("2025-01-25T11:00:00Z")?), "its time was dropped: {acted:?}");
    ensure!(acted.waiting_since.is_none() && acted.last_error.as_deref() == Some("Era su hora"), "{acted:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_version_before_leaves_of_its_waiting_is_understood() -> Result<()> {
    // It began to wait: its words say so, and nothing else.
    let word = "last_error = 'Espera a que termine lo que empezó antes'";
    // It moved on from a time that was waited for, and left the column as it was.
    let left = "last_error = null, waiting_since = '2025-01-24T11:00:10Z'";
    for (label, leaves, waited) in [("reportword", word, true), ("reportleft", left, false)] {
        let world = World::new(label).await?;
        let id = daily(&world, Missed::Skip).await?;
        let statement = format!("update schedules set {leaves}");
        sqlx::query(AssertSqlSafe(statement)).execute(&world.pool).await?;
        let clock = Clock::fixed(at("2025-01-25T11:30:00Z")?);
        ensure!(Scheduler::new(world.pool.clone(), clock, AfterAnother).round().await? == 1);
        let schedule = schedules::get(&world.resources.database.orm, id).await?.context("the schedule")?;
        ensure!(schedule.last_at.is_some() == waited, "{leaves}: {schedule:?}");
        ensure!(schedule.waiting_since.is_none(), "{leaves}: {schedule:?}");
    }
    Ok(())
}

/// Lets the database's clock stand in 2025, so that to it this machine's is far ahead.
async fn stands_at(world: &World, time: &str) -> Result<()> {
    for clock in ["now", "clock_timestamp"] {
        let function = format!(
            "create or replace function {clock}() returns timestamptz language sql stable as $$ select timestamptz '{time}' $$"
        );
        sqlx::query(AssertSqlSafe(function)).execute(&world.pool).await?;
    }
    Ok(())
}

/// Connections that go by that clock.
async fn by_that_clock(world: &World) -> Result<PgPool> {
    let schema: String = sqlx::query_scalar("select current_schema()::text").fetch_one(&world.pool).await?;
    let options = world.pool.connect_options().as_ref().clone();
    let options = options.options([("search_path", format!("{schema},pg_catalog"))]);
    Ok(PgPoolOptions::new().max_connections(2).connect_with(options).await?)
}

#[tokio::test]
async fn times_come_by_the_clock_of_the_database() -> Result<()> {
    let world = World::new("reportclock").await?;
    let id = daily(&world, Missed::All).await?;
    stands_at(&world, "2025-01-25T10:59:58Z").await?;
    let scheduler = Scheduler::new(by_that_clock(&world).await?, Clock::System, AfterAnother);
    ensure!(!scheduler.turn().await?, "it began before its time");
    stands_at(&world, "2025-01-25T11:00:01Z").await?;
    ensure!(scheduler.turn().await?, "it did not begin at its time");
    let schedule = schedules::get(&world.resources.database.orm, id).await?.context("the schedule")?;
    ensure!(schedule.next_at == at("2025-01-26T11:00:00Z")?, "{schedule:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_changed_while_it_fires_does_not_fire_again() -> Result<()> {
    let world = World::new("reportchanged").await?;
    let id = daily(&world, Missed::Last).await?;
    stands_at(&world, "2025-01-25T10:59:59Z").await?;
    // Its turn, which takes a while.
    let mut turn = world.pool.begin().await?;
    let holder: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *turn).await?;
    sqlx::query("select 1 from schedules where id = $1 for update").bind(id).execute(&mut *turn).await?;
    let settings = NewSchedule {
        cron: "0 11 * * *".to_owned(),
        zone: "UTC".to_owned(),
        missed: Missed::Last,
        params: Params::default(),
        active: true,
        created_by: "eva".to_owned(),
    };
    let orm = chassis::db::orm(&by_that_clock(&world).await?);
    let changed = tokio::spawn(async move { settings.put(&orm, Some(id)).await.ok() });
    wait::until("the change should wait for the turn", Duration::from_secs(20), async || {
        let waits = "select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))";
        sqlx::query_scalar::<_, bool>(waits).bind(holder).fetch_one(&world.pool).await.unwrap_or(false)
    })
    .await?;
    stands_at(&world, "2025-01-25T11:00:01Z").await?;
    turn.commit().await?;
    let changed = changed.await?.context("it is there")?;
    ensure!(changed.next_at == at("2025-01-26T11:00:00Z")?, "{changed:?}");
    Ok(())
}

#[tokio::test]
async fn other_settings_bring_no_deleted_schedule_back() -> Result<()> {
    let world = World::new("reportreplace").await?;
    let orm = &world.resources.database.orm;
    let id = daily(&world, Missed::Last).await?;
    let settings = |active| NewSchedule {
        cron: "30 7 * * *".to_owned(),
        zone: "UTC".to_owned(),
        missed: Missed::Skip,
        params: Params::default(),
        active,
        created_by: "eva".to_owned(),
    };
    let replaced = settings(false).put(orm, Some(id)).await.ok().context("it is there")?;
    ensure!(
        (replaced.version, replaced.active, replaced.cron.as_str()) == (2, false, "30 7 * * *"),
        "{replaced:?}"
    );
    ensure!(replaced.created_by == "ana", "who made it stays: {replaced:?}");
    schedules::http::delete(orm, &id.to_string()).await.ok().context("it is deleted")?;
    ensure!(settings(true).put(orm, Some(id)).await.is_err(), "it is there again");
    ensure!(schedules::list(orm).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_run_whose_files_the_bucket_has_lost_is_made_again() -> Result<()> {
    let world = World::new("reportlost").await?;
    world.campaign(day("2025-01-27")?, "Una", 1).await?;
    let id = daily(&world, Missed::Last).await?;
    let scheduler = scheduler(&world, Clock::fixed(at("2025-01-28T11:00:05Z")?));
    let turn = || async {
        sqlx::query("update schedules set next_at = '2025-01-28T11:00:00Z'").execute(&world.pool).await?;
        ensure!(scheduler.turn().await?, "it is due");
        let schedule = schedules::get(&world.resources.database.orm, id).await?.context("the schedule")?;
        schedule.last_run.context("a run")
    };
    let first = turn().await?;
    let key = format!("campaign-reports/{first}/1/1/report_campaign_1.csv");
    put(&world, &key).await?;
    sqlx::query(
        "update run_files set object_key = $2, rows = 1, bytes = 5, sha256 = 'x',
             changes = (select cambios from ta_sms_maestro where id = campaign_id) where run_id = $1",
    )
    .bind(first)
    .bind(&key)
    .execute(&world.pool)
    .await?;
    sqlx::query("update runs set state = 'completed', done = 1, rows = 1, bytes = 5, finished_at = now()")
        .execute(&world.pool)
        .await?;
    ensure!(turn().await? == first, "its files show the day as it is");
    let resources = &world.resources;
    resources.s3.delete_object().bucket(&resources.bucket).key(&key).send().await?;
    ensure!(turn().await? != first, "a run stands for files that are nowhere");
    Ok(())
}
