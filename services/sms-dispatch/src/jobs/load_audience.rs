//! Loads a file whose people are an audience: read in batches, each copied in with its checkpoint. The file leaves the bucket
//! when its job has ended, however that was.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use contracts::queues::SMS_AUDIENCES;
use failpoints::Point;
use jobs::{Job, JobKind, JobRun, Outcome, Position, Progress, State, Work};
use messaging::JobError;
use sea_orm::sqlx::{PgConnection, PgPool};
use serde::{Deserialize, Serialize};

use crate::{
    Resources, SERVICE,
    config::ImportSettings,
    domain::audience_file::Shape,
    import::{audience_list::AudienceList, csv, files::Spool},
    storage::{
        audience_files::{self, AudienceFile},
        audit, numbering_plan,
    },
};

/// The name of the kind.
pub const KIND: &str = "sms.audience_files";
/// Rows a transaction.
const BATCH: usize = 5_000;

/// Files of audiences, two at a time in each worker.
pub fn kind(settings: &ImportSettings) -> JobKind {
    JobKind {
        concurrency: 2,
        deadline: settings.deadline,
        lease: settings.lease,
        max_attempts: settings.max_attempts,
        ..JobKind::new(SERVICE, KIND, &SMS_AUDIENCES)
    }
}

/// Loads files.
pub struct LoadAudiences {
    pub pool: PgPool,
    pub spool: Spool,
    /// Rows that a file may have.
    pub most_rows: i64,
}

impl LoadAudiences {
    pub(crate) fn from_s3(resources: &Resources) -> Self {
        let Resources { database, s3, bucket, settings, sms, .. } = resources;
        let spool = Spool { client: s3.clone(), bucket: bucket.clone(), dir: settings.spool.clone() };
        Self { pool: database.pool.clone(), spool, most_rows: sms.audience_most_rows }
    }
}

/// How far a file is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Place {
    /// Where the next row is; none before the first batch, and at the end.
    next: Option<csv::Place>,
    ended: bool,
    accepted: i64,
    rejected: i64,
    longest: Vec<usize>,
}

/// What a file came to.
#[derive(Debug, Serialize, Deserialize)]
struct Loaded {
    accepted: i64,
    rejected: i64,
    shape: Shape,
}

#[async_trait]
impl Work for LoadAudiences {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let mut place: Place = run.job.checkpoint_as().map_err(JobError::fail)?.unwrap_or_default();
        let file = audience_files::get(&self.pool, run.job.id).await.map_err(JobError::retry)?;
        let file = file.ok_or_else(|| JobError::fail(anyhow!("the job has no file")))?;
        let fetched = self.spool.copy(file.id, &file.object_key, &run.lease).await?;
        let plan = Arc::new(numbering_plan::read(&self.pool).await.map_err(JobError::Retry)?);
        let list = blocking({
            let (path, mapping) = (fetched.path.clone(), file.mapping.clone());
            move || AudienceList::open(&path, &mapping, plan)
        });
        let list = list.await?;
        while !place.ended {
            self.batch(run, &file, &list, &mut place).await?;
            run.proceed()?;
        }
        let Place { accepted, rejected, longest, .. } = place;
        let loaded = Loaded { accepted, rejected, shape: list.shape(longest) };
        Ok(Outcome::Done(serde_json::to_value(loaded).map_err(JobError::fail)?))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        if job.state == State::Completed {
            let result = job.result.clone().context("a file that is loaded says what it came to")?;
            let Loaded { accepted, rejected, shape } = serde_json::from_value(result)?;
            audience_files::loaded(conn, job.id, shape, (accepted, rejected)).await?;
        } else {
            // Nobody may be written to by half a file, and nothing of it stays.
            audience_files::let_go(conn, job.id).await?;
        }
        let actor = job.user.as_deref().unwrap_or("unknown");
        let details = serde_json::json!({ "state": job.state.name(), "error": job.error });
        audit::record(conn, actor, "audience_file_ended", Some(&job.id.to_string()), &details).await?;
        Ok(())
    }

    async fn committed(&self, job: &Job) {
        let Ok(Some(file)) = audience_files::get(&self.pool, job.id).await else { return };
        let Spool { client, bucket, .. } = &self.spool;
        // What stays behind is found by the hourly sweep.
        if let Err(error) = client.delete_object().bucket(bucket).key(&file.object_key).send().await {
            tracing::warn!(file = %file.id, %error, "a file of an audience is still in the bucket");
        }
    }
}

impl LoadAudiences {
    /// Copies the next rows in.
    async fn batch(
        &self,
        run: &JobRun,
        file: &AudienceFile,
        list: &AudienceList,
        place: &mut Place,
    ) -> Result<(), JobError> {
        let batch = blocking({
            let (list, number) = (list.clone(), file.number);
            let from = place.next.clone().unwrap_or_else(|| list.first_place());
            move || list.read(number, &from, BATCH)
        });
        let batch = batch.await?;
        place.accepted += batch.accepted;
        place.rejected += batch.rejected;
        place.longest.resize(batch.longest.len(), 0);
        for (longest, one) in place.longest.iter_mut().zip(&batch.longest) {
            *longest = (*longest).max(*one);
        }
        let rows = place.accepted + place.rejected;
        if rows > self.most_rows {
            return Err(JobError::fail(anyhow!(
                "El archivo tiene más de {} filas, el máximo",
                self.most_rows
            )));
        }
        (place.ended, place.next) = (batch.next.is_none(), batch.next);
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        let (people, rejects) = (batch.people.into_bytes(), batch.rejects.into_bytes());
        audience_files::copy(&mut transaction, people, rejects).await.map_err(JobError::retry)?;
        let progress = Progress {
            total: place.ended.then_some(rows),
            processed: rows,
            successful: place.accepted,
            failed: place.rejected,
        };
        let checkpoint = serde_json::to_value(&*place).map_err(JobError::fail)?;
        run.checkpoint(&mut transaction, &checkpoint, Position::new(0, rows), &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        Ok(())
    }
}

/// What reads the file, on a thread of its own. What is wrong with the file is for its user.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, JobError> {
    tokio::task::spawn_blocking(work).await.map_err(JobError::retry)?.map_err(JobError::Fail)
}
