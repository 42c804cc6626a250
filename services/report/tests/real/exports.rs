//! Making a file, by whoever holds its job, and by who does no more.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use chrono::Utc;
use jobs::{Job, JobRun, NewJob, Outcome, Runner, State, Work};
use messaging::{Backoff, JobError};
use report::{
    domain::params::Params,
    jobs::export_campaign::{ExportCampaigns, KIND},
    storage::{files, runs},
};
use sea_orm::sqlx::{self, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    retention::{begin, objects, put, uploads},
    world::World,
};

/// A file to be made, and the folder of its attempts.
struct Case {
    world: World,
    runner: Runner,
    work: ExportCampaigns,
    job: Uuid,
    folder: String,
}

impl Case {
    async fn new(label: &str, max_attempts: i32) -> Result<Self> {
        let world = World::new(label).await?;
        let fecha = Utc::now().date_naive();
        let campaign = world.campaign(fecha, "Una", 3).await?;
        let (run, file) = (NewJob::plain("report.runs", "ana", 1), NewJob::plain(KIND, "ana", max_attempts));
        let (run_id, job) = (run.id, file.id);
        let mut transaction = world.pool.begin().await?;
        jobs::create(&mut transaction, run).await?;
        jobs::create(&mut transaction, file).await?;
        runs::create(&mut transaction, run_id, fecha, &Params::default(), "ana")
            .await?
            .context("a campaign")?;
        files::give_jobs(&mut transaction, run_id, &[campaign], &[job]).await?;
        runs::began(&mut transaction, run_id, None).await?;
        transaction.commit().await?;
        let backoff = Backoff { steps: vec![Duration::from_secs(3600)] };
        let runner = Runner::new(world.pool.clone()).backoff(backoff);
        let work = ExportCampaigns { resources: world.resources.clone() };
        Ok(Self { world, runner, work, job, folder: format!("campaign-reports/{run_id}/{campaign}/") })
    }

    async fn run(&self, work: &dyn Work) -> Result<Job> {
        let done = self.runner.run(self.job, &CancellationToken::new(), work).await;
        ensure!(done.is_ok(), "{done:?}");
        self.job().await
    }

    async fn job(&self) -> Result<Job> {
        jobs::get(&mut *self.world.pool.acquire().await?, self.job).await?.context("the job")
    }

    async fn execute(&self, statement: &'static str) -> Result<()> {
        sqlx::query(statement).bind(self.job).execute(&self.world.pool).await?;
        Ok(())
    }

    /// Objects and unfinished uploads of claims: of the one before the next, by the names of this version and of the
    /// one before it; of the next one's epoch, as a failover gives it twice; and of a later one.
    async fn strew(&self) -> Result<[String; 4]> {
        // The next claim's epoch is 2.
        self.execute("update jobs set epoch = 1 where id = $1").await?;
        let token = Uuid::new_v4().simple();
        let keys = ["1".to_owned(), format!("1-{token}"), format!("2-{token}"), format!("3-{token}")]
            .map(|claim| format!("{}{claim}/x.csv", self.folder));
        for key in &keys {
            put(&self.world, key).await?;
            begin(&self.world, key).await?;
        }
        Ok(keys)
    }
}

#[tokio::test]
async fn whoever_takes_a_file_over_deletes_what_lower_epochs_left_and_nothing_else() -> Result<()> {
    let case = Case::new("reportfence", 3).await?;
    let [.., twin, later] = case.strew().await?;
    let job = case.run(&case.work).await?;
    ensure!(job.state == State::Completed, "{job:?}");
    let made = job.result.as_ref().and_then(|result| result["object_key"].as_str()).context("its key")?;
    ensure!(made.starts_with(&format!("{}2-", case.folder)), "{made}");
    let left = [made, &twin, &later].map(str::to_owned).into();
    ensure!(objects(&case.world).await? == left, "{:?}", objects(&case.world).await?);
    ensure!(uploads(&case.world).await? == [twin, later].into(), "{:?}", uploads(&case.world).await?);
    Ok(())
}

/// Work whose lease is lost between the claim and its first step, without its knowing.
struct Robbed<'a> {
    work: &'a ExportCampaigns,
    pool: PgPool,
}

#[async_trait]
impl Work for Robbed<'_> {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        sqlx::query("update jobs set epoch = epoch + 1, owner = 'another' where id = $1")
            .bind(run.job.id)
            .execute(&self.pool)
            .await
            .map_err(JobError::retry)?;
        self.work.work(run).await
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        self.work.ended(conn, job).await
    }
}

#[tokio::test]
async fn whoever_lost_a_file_without_knowing_deletes_nothing() -> Result<()> {
    let case = Case::new("reportrobbed", 3).await?;
    let keys = case.strew().await?;
    let robbed = Robbed { work: &case.work, pool: case.world.pool.clone() };
    let job = case.run(&robbed).await?;
    ensure!((job.state, job.owner.as_deref()) == (State::Running, Some("another")), "{job:?}");
    ensure!(objects(&case.world).await? == keys.clone().into(), "{:?}", objects(&case.world).await?);
    ensure!(uploads(&case.world).await? == keys.into(), "{:?}", uploads(&case.world).await?);
    Ok(())
}

#[tokio::test]
async fn a_file_that_can_t_be_made_fails_after_its_attempts() -> Result<()> {
    let mut case = Case::new("reportfails", 2).await?;
    case.work.resources.bucket = "there-is-no-such-bucket".to_owned();
    let mut attempts = 0;
    while !case.job().await?.state.is_final() {
        attempts += 1;
        ensure!(attempts < 10, "it is tried for ever");
        case.execute("update jobs set next_run_at = now() where id = $1").await?;
        // As each attempt does that got some rows far: it says so, and starts over.
        let told = Telling { work: &case.work };
        case.run(&told).await?;
    }
    let job = case.job().await?;
    ensure!((job.state, attempts) == (State::Failed, 2), "{attempts}: {job:?}");
    Ok(())
}

/// Work that has told how many rows it read before it goes on.
struct Telling<'a> {
    work: &'a ExportCampaigns,
}

#[async_trait]
impl Work for Telling<'_> {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        self.work.report(run, run.lease.epoch, None).await?;
        self.work.work(run).await
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        self.work.ended(conn, job).await
    }
}
