//! Starts a run: gives each of its files a job, once what is known to be missing of its day has come or was waited for long
//! enough.

use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use chrono::{NaiveDate, Utc};
use contracts::{
    Message as _,
    queues::{REPORT_EVENTS, REPORT_RUNS},
    report::v1::StartRun,
};
use failpoints::Point;
use jobs::{Job, JobKind, JobRun, Outcome, State, Work};
use messaging::{Broker, JobError};
use sea_orm::sqlx::PgConnection;
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

use super::export_campaign;
use crate::{
    Resources,
    config::ReportSettings,
    finish_run::finish_run,
    storage::{
        campaigns, files,
        runs::{self, Run},
    },
};

/// When a run that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long the broker is asked how many events wait.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many days after a campaign's own its providers still report. Events that wait are then of others.
const DAYS_OF_EVENTS: i64 = 3;

/// Starts of runs: each job is one of `runs`. Short, and so not behind another run's files.
pub fn kind(settings: &ReportSettings) -> JobKind {
    let kind = super::kind("report.runs", &REPORT_RUNS, settings);
    JobKind { concurrency: 2, replaces: Some(StartRun::TYPE), ..kind }
}

/// Starts runs.
pub struct StartRuns {
    pub resources: Resources,
    /// Knows whether events wait.
    pub broker: Broker,
}

#[async_trait]
impl Work for StartRuns {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        match self.begin(run).await.map_err(JobError::Retry)? {
            Begun::Files(files) => Ok(Outcome::Done(json!({ "files": files }))),
            Begun::Waits => Ok(Outcome::Written),
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
    /// Something of its day is missing: the job is given back.
    Waits,
    /// Somebody asked for its end first.
    Cancelled,
    Missing,
}

impl StartRuns {
    async fn begin(&self, job: &JobRun) -> anyhow::Result<Begun> {
        let (id, database) = (job.job.id, &self.resources.database);
        let Some(run) = runs::get(&database.orm, id).await? else { return Ok(Begun::Missing) };
        let missing = self.missing(run.fecha).await?;
        if let Some(missing) = &missing
            && self.may_wait(&run).await?
        {
            // The job before its run: so does whoever cancels it, and in the other order each could wait for the other.
            let mut transaction = database.pool.begin().await?;
            jobs::postpone(&mut transaction, &job.lease, LOOK_AGAIN).await?;
            runs::waits(&mut transaction, id, missing).await?;
            transaction.commit().await?;
            return Ok(Begun::Waits);
        }
        self.give_jobs(id, missing.as_deref()).await
    }

    /// Whether a run has not begun, and has time left to wait in. Whoever cancels it waits for nothing.
    async fn may_wait(&self, run: &Run) -> anyhow::Result<bool> {
        let age = (Utc::now() - run.created_at).to_std().unwrap_or_default();
        if age >= self.resources.settings.wait || run.cancel_requested_at.is_some() {
            return Ok(false);
        }
        let mut conn = self.resources.database.pool.acquire().await?;
        Ok(!files::without_job(&mut conn, run.id).await?.is_empty())
    }

    /// What of a day is known to be missing, for a person: rows that completed campaigns are to have, and what events that nobody
    /// has read yet may tell. None: nothing.
    async fn missing(&self, fecha: NaiveDate) -> anyhow::Result<Option<String>> {
        let mut missing = Vec::new();
        // The events before the rows: what one told that was read in between is seen in these.
        let today = Utc::now().with_timezone(&self.resources.settings.zone).date_naive();
        if (today - fecha).num_days() <= DAYS_OF_EVENTS {
            let unknown = "no se sabe si hay eventos de campañas en espera";
            match timeout(PATIENCE, self.broker.depth(&REPORT_EVENTS)).await {
                Ok(Ok(depth)) if depth.ready == 0 => {}
                Ok(Ok(depth)) => missing.push(format!("{} eventos de campañas en espera", depth.ready)),
                Ok(Err(error)) => {
                    tracing::warn!(error = format!("{error:#}"), "no depth of the queue of events");
                    missing.push(unknown.to_owned());
                }
                Err(_) => missing.push(unknown.to_owned()),
            }
        }
        let mut conn = self.resources.database.pool.acquire().await?;
        let (campaigns, rows) = campaigns::lacking(&mut conn, fecha).await?;
        if campaigns > 0 {
            missing.push(format!("faltan {rows} filas de {campaigns} campañas completadas"));
        }
        Ok(Some(missing.join("; ")).filter(|missing| !missing.is_empty()))
    }

    /// One transaction: the jobs, whose they are, and their nudges.
    async fn give_jobs(&self, id: Uuid, missing: Option<&str>) -> anyhow::Result<Begun> {
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
            runs::began(conn, id, missing).await?;
            if let Some(missing) = missing {
                tracing::warn!(run = %id, fecha = %run.fecha, missing, "run begun without all of its day");
            }
        }
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await?;
        failpoints::hit(Point::BatchCommitted);
        Ok(Begun::Files(campaigns.len()))
    }
}
