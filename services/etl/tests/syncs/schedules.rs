//! What schedules begin, and when they do not.

use anyhow::{Context as _, Result, ensure};
use chassis::{clock::Clock, config::Env};
use chrono::{DateTime, Utc};
use etl::{
    Resources,
    collections::bigquery::{BigQuerySettings, Client},
    domain::run::{Mode, RunParams},
    scheduler::{BeginSyncs, Overlap, ScheduledSync},
    storage::{default_schedules, doctor},
};
use jobs::State;
use schedules::{Missed, Schedule, Scheduler, http::NewSchedule};
use sea_orm::sqlx;
use simulators::bsale::{Shop, Size};
use uuid::Uuid;

use crate::world::{Kind, World};

/// Six in the morning in Santiago, and the day after.
const DUE: &str = "2026-01-05T09:00:00Z";
const NEXT: &str = "2026-01-06T09:00:00Z";

fn at(text: &str) -> Result<DateTime<Utc>> {
    Ok(text.parse()?)
}

fn daily(overlap: Overlap) -> ScheduledSync {
    ScheduledSync { source: "bsale".to_owned(), mode: Mode::Daily, overlap }
}

impl World {
    async fn small(label: &str) -> Result<Self> {
        let size = Size { products: 2, clients: 2, days: 1, documents_a_day: 1 };
        Self::new(label, Kind::Postgres, Shop::new(1, size)).await
    }

    fn scheduler(&self, clock: Clock) -> Scheduler<BeginSyncs> {
        let resources = self.resources.clone();
        Scheduler::new(resources.database.pool.clone(), clock, BeginSyncs { resources })
    }

    /// A schedule of all of Bsale that is due.
    async fn due(&self, overlap: Overlap) -> Result<Uuid> {
        let schedule = Schedule {
            id: Uuid::now_v7(),
            cron: "0 6 * * *".to_owned(),
            zone: "America/Santiago".to_owned(),
            missed: Missed::Last,
            params: serde_json::to_value(daily(overlap))?,
            active: true,
            next_at: at(DUE)?,
            last_at: None,
            last_run: None,
            last_error: None,
            waiting_since: None,
            created_by: "ana".to_owned(),
            created_at: Utc::now(),
            version: 1,
        };
        Ok(schedules::put(&self.resources.database.orm, schedule).await?.id)
    }

    async fn schedule(&self, id: Uuid) -> Result<Schedule> {
        schedules::get(&self.resources.database.orm, id).await?.context("the schedule")
    }

    /// The streams of all runs there are.
    async fn begun(&self) -> Result<Vec<String>> {
        let lanes = "select params ->> 'lane' from jobs where kind = 'etl.runs' order by 1";
        Ok(sqlx::query_scalar(lanes).fetch_all(&self.resources.database.pool).await?)
    }
}

#[tokio::test]
async fn a_stream_that_is_under_way_is_waited_for_or_left_out() -> Result<()> {
    let world = World::small("etloverlap").await?;
    let busy = world.ask(&RunParams::new("bsale.clientes", Mode::Full)).await?.job().id;
    let waits = world.due(Overlap::Queue).await?;
    let scheduler = world.scheduler(Clock::fixed(at(DUE)?));
    let findings = async || doctor::doctor(&world.resources.database.pool).await;
    ensure!(findings().await?.iter().any(|finding| finding.contains("has been due")), "nobody looked at it");
    ensure!(scheduler.round().await? == 0, "it waits");
    ensure!(findings().await?.is_empty(), "{:?}", findings().await?);
    ensure!(world.begun().await? == ["bsale.clientes"]);
    ensure!(world.schedule(waits).await?.next_at == at(DUE)?, "and stays due");
    ensure!(world.attempt(busy).await?.state == State::Completed);
    ensure!(scheduler.round().await? == 1);
    let begun = world.begun().await?;
    ensure!(begun.len() == 10, "a run of each of nine streams: {begun:?}");
    let schedule = world.schedule(waits).await?;
    ensure!(schedule.next_at == at(NEXT)? && schedule.last_run.is_some(), "{schedule:?}");

    // All of them are under way by now.
    let skips = world.due(Overlap::Skip).await?;
    ensure!(scheduler.round().await? == 1);
    ensure!(world.begun().await?.len() == 10);
    let schedule = world.schedule(skips).await?;
    let told = schedule.last_error.as_deref().context("why")?;
    ensure!(told.starts_with("Sigue en curso: ") && schedule.next_at == at(NEXT)?, "{schedule:?}");
    // The one that has ended is begun, the others are left out.
    let pool = &world.resources.database.pool;
    let stock = "select id from jobs where params ->> 'lane' = 'bsale.stock'";
    let stock: Uuid = sqlx::query_scalar(stock).fetch_one(pool).await?;
    ensure!(world.attempt(stock).await?.state == State::Completed);
    let due = "update schedules set next_at = $2 where id = $1";
    sqlx::query(due).bind(skips).bind(at(DUE)?).execute(pool).await?;
    ensure!(scheduler.round().await? == 1);
    let begun = world.begun().await?;
    let of_stock = begun.iter().filter(|lane| *lane == "bsale.stock").count();
    ensure!((begun.len(), of_stock) == (11, 2), "{begun:?}");
    Ok(())
}

#[tokio::test]
async fn a_schedule_that_is_enabled_again_does_not_fire_what_has_passed() -> Result<()> {
    let world = World::small("etlenabled").await?;
    let id = world.due(Overlap::Skip).await?;
    let orm = &world.resources.database.orm;
    let put = async |active: bool| {
        let (cron, zone) = ("0 6 * * *".to_owned(), "America/Santiago".to_owned());
        let (params, created_by) = (daily(Overlap::Skip), "ana".to_owned());
        let new = NewSchedule { cron, zone, missed: Missed::All, params, active, created_by };
        new.put(orm, Some(id)).await.ok().context("the schedule")
    };
    put(false).await?;
    // Months go by.
    let passed = "update schedules set next_at = $2 where id = $1";
    sqlx::query(passed).bind(id).bind(at(DUE)?).execute(&world.resources.database.pool).await?;
    let scheduler = world.scheduler(Clock::System);
    ensure!(scheduler.round().await? == 0, "it is off");
    let schedule = put(true).await?;
    ensure!(schedule.active && schedule.next_at > Utc::now(), "{schedule:?}");
    ensure!(
        scheduler.round().await? == 0 && world.begun().await?.is_empty(),
        "whatever becomes of missed ones"
    );
    Ok(())
}

#[tokio::test]
async fn a_new_installation_has_its_schedules_once() -> Result<()> {
    let world = World::small("etldefaults").await?;
    let mut env = Env::from_map([
        ("BIGQUERY_PROJECT_ID", "proyecto"),
        ("BIGQUERY_DATASET", "cobranzas"),
        ("BIGQUERY_ANONYMOUS", "true"),
    ]);
    let bigquery = BigQuerySettings::read(&mut env).context("the project is given")?;
    let resources = Resources { bigquery: Some(Client::new(bigquery)), ..world.resources.clone() };
    let orm = &world.resources.database.orm;
    for _ in 0..2 {
        default_schedules::ensure(&resources).await?;
    }
    let all = schedules::list(orm).await?;
    let told: Vec<_> = all
        .iter()
        .map(|schedule| {
            let text = |name: &str| schedule.params[name].as_str().unwrap_or_default();
            (text("source"), text("mode"), schedule.cron.as_str(), schedule.zone.as_str())
        })
        .collect();
    ensure!(
        told == [
            ("bsale", "daily", "0 6 * * 1-6", "America/Santiago"),
            ("bsale", "full", "0 6 * * 0", "America/Santiago"),
            ("bigquery", "daily", "0 */3 * * *", "America/Lima"),
        ],
        "{told:?}"
    );
    ensure!(all.iter().all(|schedule| schedule.active && schedule.next_at > Utc::now()), "{all:?}");
    // Who deletes one does not get it again.
    let deleted = schedules::http::delete(orm, &all[1].id.to_string()).await;
    ensure!(deleted.is_ok());
    default_schedules::ensure(&resources).await?;
    ensure!(schedules::list(orm).await?.len() == 2);
    Ok(())
}
