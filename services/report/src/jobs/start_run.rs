//! `StartRun`: gives each file of a run its job.

use anyhow::anyhow;
use async_trait::async_trait;
use contracts::report::v1::{ExportCampaign, StartRun};
use failpoints::Point;
use jobs::{Job, JobRun, Outcome, Runner, State, Sweeper, Work};
use messaging::{Context, Handler, JobError};
use outbox::Meta;
use sea_orm::sqlx::{PgConnection, PgPool};
use serde_json::json;
use uuid::Uuid;

use super::{export_campaign, job_id};
use crate::{
    Resources, SERVICE,
    config::ReportSettings,
    run_end,
    storage::{files, runs},
};

/// The kind of the job's row.
pub const KIND: &str = "report.runs";

/// Begins runs.
#[derive(Clone)]
pub struct StartRuns {
    pub runner: Runner,
    pub resources: Resources,
}

/// Nudges runs that are due and that nobody begins.
pub fn sweeper(pool: PgPool, settings: &ReportSettings) -> Sweeper<StartRun, fn(&Job) -> StartRun> {
    fn nudge(job: &Job) -> StartRun {
        StartRun { run_id: job.id.to_string() }
    }
    Sweeper::new(pool, SERVICE, KIND, nudge as fn(&Job) -> StartRun).again_after(settings.lease)
}

#[async_trait]
impl Handler<StartRun> for StartRuns {
    async fn handle(&self, message: StartRun, context: &Context) -> Result<(), JobError> {
        let id = job_id(&message.run_id)?;
        self.runner.run(id, &context.shutdown, self).await?;
        self.resources.live.tell(&self.resources.database.orm, id).await;
        Ok(())
    }
}

#[async_trait]
impl Work for StartRuns {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        match self.begin(run.job.id).await.map_err(JobError::Retry)? {
            Begun::Files(files) => Ok(Outcome::Done(json!({ "files": files }))),
            // Whoever claims the job next finds the wish in its row, and ends it.
            Begun::Cancelled => Err(JobError::Release),
            Begun::Missing => Err(JobError::fail(anyhow!("the job has no run"))),
        }
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        if job.state == State::Completed {
            return Ok(());
        }
        if runs::lock(conn, job.id).await?.is_some() {
            let run = runs::not_begun(conn, job.id).await?;
            run_end::write(conn, &run, job.error.as_deref()).await?;
        }
        Ok(())
    }
}

/// What came of beginning a run.
enum Begun {
    /// So many files have got their jobs.
    Files(usize),
    /// Somebody asked for its end first.
    Cancelled,
    Missing,
}

impl StartRuns {
    /// One transaction: the jobs, whose they are, and their nudges.
    async fn begin(&self, id: Uuid) -> anyhow::Result<Begun> {
        let mut transaction = self.resources.database.pool.begin().await?;
        let conn = &mut *transaction;
        // Whoever cancels waits here, and then finds the jobs to cancel.
        let Some(run) = runs::lock(conn, id).await? else { return Ok(Begun::Missing) };
        if run.cancel_requested_at.is_some() {
            return Ok(Begun::Cancelled);
        }
        let campaigns = files::without_job(conn, id).await?;
        if !campaigns.is_empty() {
            let ids: Vec<Uuid> = campaigns.iter().map(|_| Uuid::now_v7()).collect();
            let attempts = self.resources.settings.max_attempts;
            jobs::create_all(conn, &ids, export_campaign::KIND, Some(&run.created_by), attempts).await?;
            files::give_jobs(conn, id, &campaigns, &ids).await?;
            let nudges = ids.iter().map(|job| {
                (
                    ExportCampaign { job_id: job.to_string() },
                    Meta::about(job).correlated(Some(id.to_string())),
                )
            });
            outbox::publish_all(conn, SERVICE, nudges.collect()).await?;
            runs::began(conn, id).await?;
        }
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await?;
        failpoints::hit(Point::BatchCommitted);
        Ok(Begun::Files(campaigns.len()))
    }
}
