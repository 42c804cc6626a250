//! Makes one file of a run.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use chassis::{
    db::Orm,
    s3::{self, Gather, UploadError},
};
use contracts::{Message as _, queues::REPORT_CAMPAIGNS, report::v1::ExportCampaign};
use failpoints::Point;
use futures::{TryStreamExt as _, stream};
use jobs::{Job, JobKind, JobRun, Outcome, Progress, State, Work};
use messaging::JobError;
use sea_orm::sqlx::PgConnection;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::{
    Resources, abandoned_uploads,
    config::ReportSettings,
    domain::{names, params::Kind},
    files::produce::{self, Counter, ProduceError, Produced, Subject},
    finish_run::finish_run,
    metrics,
    storage::{
        files::{self, File, Made},
        runs::{self, Run},
    },
};

/// The kind of the job's row.
pub const KIND: &str = "report.files";

/// How often the row says how far a file is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Files of runs, one job each.
pub fn kind(settings: &ReportSettings) -> JobKind {
    JobKind { replaces: Some(ExportCampaign::TYPE), ..super::kind(KIND, &REPORT_CAMPAIGNS, settings) }
}

/// Makes files.
pub struct ExportCampaigns {
    pub resources: Resources,
}

#[async_trait]
impl Work for ExportCampaigns {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let orm = &self.resources.database.orm;
        let file = files::of_job(orm, run.job.id)
            .await
            .map_err(JobError::retry)?
            .ok_or_else(|| JobError::fail(anyhow!("the job has no file")))?;
        let report = runs::get(orm, file.run_id)
            .await
            .map_err(JobError::retry)?
            .ok_or_else(|| JobError::fail(anyhow!("the file has no run")))?;
        if run.lease.epoch > 1 {
            self.clean_up(run, &file).await?;
        }
        let made = self.make(run, &file, &report).await?;
        self.report(run, made.rows, Some(made.rows)).await?;
        tracing::info!(
            run = %file.run_id, campaign = file.campaign_id, rows = made.rows, bytes = made.bytes, "file made"
        );
        Ok(Outcome::Done(json!({
            "object_key": made.object_key,
            "rows": made.rows,
            "bytes": made.bytes,
            "sha256": made.sha256,
            "changes": made.changes,
            "expected": made.expected,
        })))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let file = files::of_job(&Orm::on(conn), job.id).await?.context("the job has a file")?;
        let made = match job.state {
            State::Completed => Some(made(job.result.as_ref().context("a completed file has a result")?)?),
            _ => None,
        };
        if let Some(made) = &made {
            files::record(conn, job.id, made).await?;
        }
        let run = runs::file_ended(conn, file.run_id, made.map(|made| (made.rows, made.bytes))).await?;
        finish_run(conn, &run, job.error.as_deref()).await
    }

    async fn committed(&self, job: &Job) {
        metrics::count_file(job);
    }

    async fn after(&self, job: Uuid) {
        let orm = &self.resources.database.orm;
        if let Ok(Some(file)) = files::of_job(orm, job).await {
            self.resources.live.publish(orm, file.run_id).await;
        }
    }
}

fn made(result: &Value) -> anyhow::Result<Made> {
    let text = |name: &str| result[name].as_str().map(str::to_owned).with_context(|| name.to_owned());
    let number = |name: &str| result[name].as_i64().with_context(|| name.to_owned());
    Ok(Made {
        object_key: text("object_key")?,
        rows: number("rows")?,
        bytes: number("bytes")?,
        sha256: text("sha256")?,
        changes: number("changes")?,
        // Workers of the version before this one leave it out.
        expected: result["expected"].as_i64(),
    })
}

impl ExportCampaigns {
    /// Removes what holders of lower epochs, whose workers are dead or stopped, left of this file.
    ///
    /// S3 knows no leases, and this worker may have lost its own without knowing. So it looks first, and asks the
    /// row afterwards: whoever still holds the job then came after all of whom it saw something of a lower epoch. What
    /// has this epoch or a higher one may be a holder's after a failover took claims back; retention finds what is
    /// nobody's.
    async fn clean_up(&self, run: &JobRun, file: &File) -> Result<(), JobError> {
        let Resources { s3: client, bucket, database, .. } = &self.resources;
        let folder = abandoned_uploads::folder(file.run_id, file.campaign_id);
        let is_older = |key: &str| abandoned_uploads::epoch(key).is_some_and(|epoch| epoch < run.lease.epoch);
        let mut parts =
            abandoned_uploads::unfinished(client, bucket, &folder).await.map_err(JobError::Retry)?;
        parts.retain(|upload| is_older(&upload.key));
        let mut keys = Vec::new();
        let mut pages = std::pin::pin!(s3::list(client, bucket, &folder));
        while let Some(page) = pages.try_next().await.map_err(JobError::Retry)? {
            keys.extend(page.into_iter().map(|object| object.key).filter(|key| is_older(key)));
        }
        if parts.is_empty() && keys.is_empty() {
            return Ok(());
        }
        let mut conn = database.pool.acquire().await.map_err(JobError::retry)?;
        run.confirm(&mut conn).await?;
        drop(conn);
        abandoned_uploads::discard(client, bucket, &parts).await.map_err(JobError::Retry)?;
        s3::delete(client, bucket, &keys).await.map_err(JobError::Retry)
    }

    /// From the tables into S3. One task reads and writes rows while this one stores what there is.
    async fn make(&self, run: &JobRun, file: &File, report: &Run) -> Result<Made, JobError> {
        let Resources { s3, bucket, settings, database, .. } = &self.resources;
        // As of when it was asked for: each attempt has the same name.
        let (at, zone) = (report.created_at, settings.zone);
        let name = match report.params.kind {
            Kind::Detalle => names::of_campaign(file.campaign_id, at, zone, &report.params),
            Kind::Resumen => names::of_summary(report.fecha, at, zone, &report.params),
        };
        let object_key = abandoned_uploads::object_key(file.run_id, file.campaign_id, &run.lease, &name);
        let subject =
            Subject { campaign: file.campaign_id, fecha: report.fecha, zone, params: report.params.clone() };

        let (counter, (sender, receiver)) = (Counter::default(), mpsc::channel(produce::WAITING));
        let producing =
            produce::produce(database.pool.clone(), subject, sender, counter.clone(), run.stopping().clone());
        let producing = AbortOnDropHandle::new(tokio::spawn(producing));
        let pieces = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|piece: produce::Piece| (piece, receiver))
        });
        let mut storing =
            std::pin::pin!(s3::upload_stream(s3, bucket, &object_key, pieces, u64::MAX, Gather::InMemory));
        let mut timer = tokio::time::interval(TELL_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.reset();
        let stored = loop {
            tokio::select! {
                stored = &mut storing => break stored,
                _ = timer.tick() => {
                    let (rows, total) = counter.read();
                    self.report(run, rows, total).await?;
                }
            }
        };
        match stored {
            Ok(stored) => {
                let Produced { rows, changes, expected } =
                    producing.await.map_err(JobError::retry)?.map_err(job_error)?;
                let bytes = i64::try_from(stored.bytes).unwrap_or(i64::MAX);
                failpoints::hit(Point::UploadStored);
                let (object_key, sha256) = (object_key.clone(), stored.sha256);
                Ok(Made { object_key, rows, bytes, sha256, changes, expected })
            }
            // What the producer said went through the pipe as text.
            Err(UploadError::Interrupted(text)) => match producing.await.map_err(JobError::retry)? {
                Err(error) => Err(job_error(error)),
                Ok(_) => Err(JobError::Retry(anyhow!("{text}"))),
            },
            Err(error) => Err(JobError::retry(error)),
        }
    }

    /// Says in the row how far it is. That is no advance: a worker that takes over starts the file again.
    ///
    /// # Errors
    /// What the work must return at once.
    pub async fn report(&self, run: &JobRun, rows: i64, total: Option<i64>) -> Result<(), JobError> {
        let mut conn = self.resources.database.pool.acquire().await.map_err(JobError::retry)?;
        let progress = Progress { total, processed: rows, successful: rows, failed: 0 };
        run.progress(&mut conn, &progress).await.map(drop)
    }
}

/// What becomes of a file that could not be produced.
fn job_error(error: ProduceError) -> JobError {
    match error {
        ProduceError::Letter { .. } | ProduceError::NoCampaign(_) => JobError::fail(error),
        ProduceError::Stopped => JobError::Release,
        ProduceError::Database(_) | ProduceError::Abandoned | ProduceError::Compress(_) => {
            JobError::retry(error)
        }
    }
}
