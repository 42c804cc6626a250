//! Works on one run of a stream.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use contracts::{
    etl::v1::{SyncCompleted, SyncFailed},
    queues::ETL_RUNS,
};
use jobs::{Job, JobKind, JobRun, Outcome, State, Work};
use messaging::JobError;
use outbox::Meta;
use sea_orm::sqlx::PgConnection;

use crate::{
    Resources, SERVICE, bsale, collections,
    config::EtlSettings,
    domain::{
        run::{Counters, RunParams},
        stream::Source,
    },
    storage::runs,
    streams,
};

/// Runs of streams.
pub fn kind(settings: &EtlSettings) -> JobKind {
    super::kind(KIND, &ETL_RUNS, settings)
}

/// When a run that waits for another stream's looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Its name in rows.
pub const KIND: &str = "etl.runs";

/// Runs streams.
pub struct RunSyncs {
    pub resources: Resources,
}

impl RunSyncs {
    /// Gives the run back while another stream's goes on. It holds no place of a worker meanwhile: the other may need it.
    async fn waits_for(&self, run: &JobRun, stream: &str) -> Result<bool, JobError> {
        let mut conn = self.resources.database.pool.acquire().await.map_err(JobError::retry)?;
        if runs::active(&mut conn, stream).await.map_err(JobError::retry)?.is_none() {
            return Ok(false);
        }
        jobs::postpone(&mut conn, &run.lease, LOOK_AGAIN).await.map_err(JobError::retry)?;
        Ok(true)
    }
}

#[async_trait]
impl Work for RunSyncs {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let params = params(&run.job).map_err(JobError::Fail)?;
        let stream = streams::named(&params.stream)
            .ok_or_else(|| JobError::fail(anyhow!("there is no stream {}", params.stream)))?;
        if let Some(other) = stream.after
            && self.waits_for(run, other).await?
        {
            return Ok(Outcome::Written);
        }
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
