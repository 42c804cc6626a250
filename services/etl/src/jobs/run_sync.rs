//! `RunSync`: works on one run of a stream.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use contracts::etl::v1::{RunSync, SyncCompleted, SyncFailed};
use jobs::{Job, JobRun, Outcome, Runner, State, Sweeper, Work};
use messaging::{Backoff, Context, Handler, JobError};
use outbox::Meta;
use sea_orm::sqlx::{PgConnection, PgPool};

use super::job_id;
use crate::{
    Resources, SERVICE, bsale, collections,
    config::EtlSettings,
    domain::{
        run::{Counters, RunParams},
        stream::{self, Source},
    },
};

/// The kind of the job's row.
pub const KIND: &str = "etl.runs";

/// Runs streams.
#[derive(Clone)]
pub struct RunSyncs {
    pub runner: Runner,
    pub resources: Resources,
}

/// Runs the jobs of this service in this process.
pub fn runner(pool: PgPool, settings: &EtlSettings) -> Runner {
    let steps = [2, 10, 60, 300, 900].map(Duration::from_secs).to_vec();
    Runner::new(pool).lease(settings.lease).backoff(Backoff { steps })
}

/// Nudges runs that are due and that nobody works on.
pub fn sweeper(pool: PgPool, settings: &EtlSettings) -> Sweeper<RunSync, fn(&Job) -> RunSync> {
    fn nudge(job: &Job) -> RunSync {
        RunSync { job_id: job.id.to_string() }
    }
    Sweeper::new(pool, SERVICE, KIND, nudge as fn(&Job) -> RunSync).again_after(settings.lease)
}

#[async_trait]
impl Handler<RunSync> for RunSyncs {
    async fn handle(&self, message: RunSync, context: &Context) -> Result<(), JobError> {
        self.runner.run(job_id(&message.job_id)?, &context.shutdown, self).await
    }
}

#[async_trait]
impl Work for RunSyncs {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let params = params(&run.job).map_err(JobError::Fail)?;
        let stream = stream::named(&params.stream)
            .ok_or_else(|| JobError::fail(anyhow!("there is no stream {}", params.stream)))?;
        match stream.source {
            Source::Bsale => {
                let bsale = self.resources.bsale.as_ref().context("this installation has no Bsale");
                let bsale = bsale.map_err(JobError::Fail)?;
                bsale::work(bsale, &self.resources.database.pool, run, stream, params).await
            }
            Source::BigQuery => {
                let bigquery = self.resources.bigquery.as_ref().context("this installation has no BigQuery");
                let bigquery = bigquery.map_err(JobError::Fail)?;
                collections::work(bigquery, &self.resources.database.pool, run, params).await
            }
        }
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let params = params(job)?;
        let (run_id, meta) = (job.id.to_string(), Meta::about(job.id));
        let version = job.version.unsigned_abs();
        let (stream, mode) = (params.stream, params.mode.name().to_owned());
        if job.state == State::Completed {
            let result = job.result.clone().unwrap_or_default();
            let counters: Counters = serde_json::from_value(result["contadores"].clone())?;
            let event = SyncCompleted {
                run_id,
                stream,
                mode,
                read: counters.leidos,
                inserted: counters.insertados,
                updated: counters.actualizados,
                deleted: counters.eliminados,
                quarantined: counters.en_cuarentena,
                watermark: result["marca"].as_str().unwrap_or_default().to_owned(),
                version,
            };
            outbox::publish(conn, SERVICE, &event, meta).await?;
        } else {
            let reason = match job.state {
                State::Cancelled => "Cancelado".to_owned(),
                _ => job.error.clone().unwrap_or_default(),
            };
            outbox::publish(conn, SERVICE, &SyncFailed { run_id, stream, mode, reason, version }, meta)
                .await?;
        }
        Ok(())
    }
}

fn params(job: &Job) -> anyhow::Result<RunParams> {
    serde_json::from_value(job.params.clone()).context("the parameters of the run")
}
