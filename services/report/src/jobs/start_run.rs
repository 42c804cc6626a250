//! Starts a run: gives each of its files a job.

use anyhow::anyhow;
use async_trait::async_trait;
use contracts::{Message as _, queues::REPORT_RUNS, report::v1::StartRun};
use failpoints::Point;
use jobs::{Job, JobKind, JobRun, Outcome, State, Work};
use messaging::JobError;
use sea_orm::sqlx::PgConnection;
use serde_json::json;
use uuid::Uuid;

use super::export_campaign;
use crate::{
    Resources,
    config::ReportSettings,
    finish_run::finish_run,
    storage::{files, runs},
};

/// Starts of runs: each job is one of `runs`. Short, and so not behind another run's files.
pub fn kind(settings: &ReportSettings) -> JobKind {
    let kind = super::kind("report.runs", &REPORT_RUNS, settings);
    JobKind { concurrency: 2, replaces: Some(StartRun::TYPE), ..kind }
}

/// Starts runs.
pub struct StartRuns {
    pub resources: Resources,
}

#[async_trait]
impl Work for StartRuns {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        match self.begin(run.job.id).await.map_err(JobError::Retry)? {
            Begun::Files(files) => Ok(Outcome::Done(json!({ "files": files }))),
            // Whoever claims the job next finds the request to cancel in its row, and ends it.
            Begun::Cancelled => Err(JobError::Release),
            Begun::Missing => Err(JobError::fail(anyhow!("the job has no run"))),
        }
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        if job.state == State::Completed {
            return Ok(());
        }
        // Whose files have their jobs ends with those, whatever became of the job that gave them out.
        if runs::lock(conn, job.id).await?.is_some() && !files::without_job(conn, job.id).await?.is_empty() {
            let run = runs::not_begun(conn, job.id).await?;
            finish_run(conn, &run, job.error.as_deref()).await?;
        }
        Ok(())
    }

    async fn after(&self, job: Uuid) {
        self.resources.live.publish(&self.resources.database.orm, job).await;
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
            let kind = export_campaign::kind(&self.resources.settings);
            kind.create_all(&mut *conn, &ids, Some(&run.created_by), Some(id.to_string())).await?;
            files::give_jobs(conn, id, &campaigns, &ids).await?;
            runs::began(conn, id).await?;
        }
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await?;
        failpoints::hit(Point::BatchCommitted);
        Ok(Begun::Files(campaigns.len()))
    }
}
