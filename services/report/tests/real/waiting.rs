//! Runs of a day of which something is known to be missing.

use anyhow::{Context as _, Result, ensure};
use chrono::{NaiveDate, Utc};
use contracts::{queues::REPORT_EVENTS, sms::v1::CampaignStarted};
use jobs::{Job, NewJob, Runner, State, Work};
use messaging::{Broker, Envelope, Outgoing};
use report::{
    domain::params::Params,
    jobs::{export_campaign::ExportCampaigns, start_run::StartRuns},
    storage::{
        files, messages,
        runs::{self, Run},
    },
};
use sea_orm::sqlx;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{World, day, message};

/// Longer ago than any event of a campaign's may come.
const LONG_AGO: &str = "2025-01-27";

/// A run that was asked for, and who begins it.
struct Case {
    world: World,
    campaign: i64,
    fecha: NaiveDate,
    run: Uuid,
    starts: StartRuns,
}

impl Case {
    /// Of a day whose one campaign is completed and has 3 rows of those that it is to have.
    async fn new(label: &str, fecha: NaiveDate, expected: i64) -> Result<Self> {
        let world = World::new(label).await?;
        let campaign = world.campaign(fecha, "Una", 3).await?;
        sqlx::query("update ta_sms_maestro set filas_esperadas = $1")
            .bind(expected)
            .execute(&world.pool)
            .await?;
        let job = NewJob::plain("report.runs", "ana", 3);
        let run = job.id;
        let mut transaction = world.pool.begin().await?;
        jobs::create(&mut transaction, job).await?;
        runs::create(&mut transaction, run, fecha, &Params::default(), "ana").await?.context("a campaign")?;
        transaction.commit().await?;
        let starts = StartRuns { resources: world.resources.clone(), broker: Broker::memory() };
        Ok(Self { world, campaign, fecha, run, starts })
    }

    /// Works on a job that is due.
    async fn work(&self, job: Uuid, work: &dyn Work) -> Result<Job> {
        sqlx::query("update jobs set next_run_at = now() where id = $1")
            .bind(job)
            .execute(&self.world.pool)
            .await?;
        let done = Runner::new(self.world.pool.clone()).run(job, &CancellationToken::new(), work).await;
        ensure!(done.is_ok(), "{done:?}");
        jobs::get(&mut *self.world.pool.acquire().await?, job).await?.context("the job")
    }

    /// Tries to begin the run.
    async fn start(&self) -> Result<(Job, Run)> {
        let job = self.work(self.run, &self.starts).await?;
        let run = runs::get(&self.world.resources.database.orm, self.run).await?;
        Ok((job, run.context("the run")?))
    }
}

#[tokio::test]
async fn a_run_waits_for_the_rows_that_completed_campaigns_are_to_have() -> Result<()> {
    let case = Case::new("reportlacks", day(LONG_AGO)?, 5).await?;
    for _ in 0..2 {
        let (job, run) = case.start().await?;
        ensure!(
            (job.state, job.attempts, run.state) == (State::Pending, 0, State::Pending),
            "{job:?}, {run:?}"
        );
        ensure!(job.next_run_at > Utc::now(), "nobody looks again: {job:?}");
        ensure!(run.waits_for.as_deref() == Some("faltan 2 filas de 1 campañas completadas"), "{run:?}");
        ensure!(run.version == 2, "what is known already is no change: {run:?}");
    }
    let mut conn = case.world.pool.acquire().await?;
    messages::write(&mut conn, case.campaign, case.fecha, &[message(3, 1), message(4, 1)]).await?;
    drop(conn);
    let (job, run) = case.start().await?;
    ensure!((job.state, run.state) == (State::Completed, State::Running), "{job:?}, {run:?}");
    ensure!(run.waits_for.is_none() && run.begun_without.is_none(), "{run:?}");
    Ok(())
}

#[tokio::test]
async fn a_run_that_has_waited_long_enough_says_what_it_begins_without() -> Result<()> {
    let case = Case::new("reportwithout", day(LONG_AGO)?, 5).await?;
    sqlx::query("update runs set created_at = now() - interval '1 hour'").execute(&case.world.pool).await?;
    let (job, run) = case.start().await?;
    ensure!((job.state, run.state) == (State::Completed, State::Running), "{job:?}, {run:?}");
    ensure!(run.begun_without.as_deref() == Some("faltan 2 filas de 1 campañas completadas"), "{run:?}");

    let orm = &case.world.resources.database.orm;
    let file = files::get(orm, case.run, case.campaign).await?.context("its file")?;
    let exports = ExportCampaigns { resources: case.world.resources.clone() };
    let job = case.work(file.job_id.context("the file's job")?, &exports).await?;
    ensure!(job.state == State::Completed, "{job:?}");
    let file = files::get(orm, case.run, case.campaign).await?.context("its file")?;
    ensure!((file.rows, file.expected) == (Some(3), Some(5)), "{file:?}");
    Ok(())
}

#[tokio::test]
async fn a_run_of_these_days_waits_for_events_that_nobody_has_read() -> Result<()> {
    let case = Case::new("reportevents", Utc::now().date_naive(), 3).await?;
    let event = CampaignStarted::default();
    let event = Outgoing::to((&REPORT_EVENTS).into(), &Envelope::new("sms-dispatch", &event)?)?;
    for published in case.starts.broker.publish(&[event]).await {
        published?;
    }
    let (_, run) = case.start().await?;
    ensure!(run.state == State::Pending, "{run:?}");
    ensure!(run.waits_for.as_deref() == Some("1 eventos de campañas en espera"), "{run:?}");
    Ok(())
}

#[tokio::test]
async fn events_that_wait_are_not_of_a_day_that_is_long_past() -> Result<()> {
    let case = Case::new("reportpast", day(LONG_AGO)?, 3).await?;
    let event =
        Outgoing::to((&REPORT_EVENTS).into(), &Envelope::new("sms-dispatch", &CampaignStarted::default())?)?;
    for published in case.starts.broker.publish(&[event]).await {
        published?;
    }
    let (_, run) = case.start().await?;
    ensure!(run.state == State::Running && run.begun_without.is_none(), "{run:?}");
    Ok(())
}

#[tokio::test]
async fn a_run_that_waits_can_be_cancelled() -> Result<()> {
    let case = Case::new("reportcancels", day(LONG_AGO)?, 5).await?;
    let (_, run) = case.start().await?;
    ensure!(run.state == State::Pending, "{run:?}");
    let mut transaction = case.world.pool.begin().await?;
    runs::request_cancel(&mut transaction, case.run).await?;
    jobs::request_cancel_all(&mut transaction, &[case.run]).await?;
    transaction.commit().await?;
    let (job, run) = case.start().await?;
    ensure!((job.state, run.state) == (State::Cancelled, State::Cancelled), "{job:?}, {run:?}");
    Ok(())
}
