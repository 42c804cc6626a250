//! Takes out what an import brought in: the contacts that it created, and its values in those that it changed. Who opted
//! out meanwhile stays out: suppressions are kept by phone.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use contracts::{Message as _, sms::v1::RollBackImport as Replaced};
use failpoints::Point;
use jobs::{Creation, Job, JobKind, JobRun, NewJob, Outcome, Position, Progress, State, Work};
use messaging::JobError;
use sea_orm::sqlx::{self, PgConnection, PgPool, PgTransaction};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::import_contacts;
use crate::{
    advisory_lock::{self, AdvisoryLock},
    config::ImportSettings,
    storage::{
        audit, batches,
        imports::{self, Import},
        index_builds, indexes, rollback, views,
    },
};

/// Jobs that the command line runs itself.
pub const LOCAL_KIND: &str = "sms.local_rollbacks";

/// Contacts a transaction.
const BATCH: i64 = 20_000;

/// The parts of a rollback, in their order: what its job's position is made of. The steps of indexes are those that are
/// there, those of the others are contacts.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Prepare,
    Restore,
    Remove,
    Finish,
    Index,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Prepare | Self::Index => "index",
            Self::Restore => "restore",
            Self::Remove => "remove",
            Self::Finish => "finish",
        }
    }
}

/// What a rollback's job is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    pub import_id: Uuid,
}

/// Rollbacks that workers do, in line with imports.
pub fn kind(settings: &ImportSettings) -> JobKind {
    JobKind { name: "sms.rollbacks", replaces: Some(Replaced::TYPE), ..import_contacts::kind(settings) }
}

/// Has workers roll an import back: with a new job, or with one that failed and goes on where it was. None where one is at
/// it already: asked twice, it is done once.
///
/// # Errors
/// The database.
pub async fn create(
    conn: &mut PgConnection,
    settings: &ImportSettings,
    import_id: Uuid,
    actor: &str,
    request_id: Option<String>,
) -> Result<Option<Job>, jobs::Error> {
    let kind = kind(settings);
    let params = json!(Params { import_id });
    let mut key = format!("rollback:{import_id}");
    loop {
        let job = NewJob { params: params.clone(), idempotency_key: Some(key), ..kind.job(actor) };
        match kind.create(&mut *conn, job, request_id.clone()).await? {
            Creation::Created(job) => return Ok(Some(job)),
            // It took the import out, and a restore brought it back.
            Creation::Existing(job) if job.state == State::Completed => {
                key = format!("rollback:{import_id}:{}", job.id);
            }
            Creation::Existing(job) => {
                let reopened = jobs::reopen(&mut *conn, job.id).await?;
                if reopened.is_some() {
                    kind.nudge(conn, &[job.id], request_id).await?;
                }
                return Ok(reopened);
            }
        }
    }
}

/// Rolls imports back.
pub struct RollBackImports {
    pub pool: PgPool,
    pub settings: Arc<ImportSettings>,
}

#[async_trait]
impl Work for RollBackImports {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        // Whether it may be asked for at all; what it is once it is this one's turn is looked up then.
        self.import(&run.job).await?;
        let _lock = AdvisoryLock::take(&self.pool, advisory_lock::IMPORTS, run).await?;
        let import = self.import(&run.job).await?;
        let mut done = run.job.progress.successful;
        if import.rolled_back_at.is_none() {
            if let Some(later) = rollback::later(&self.pool, import.number).await.map_err(JobError::retry)? {
                return Err(JobError::fail(anyhow!("{later}")));
            }
            done = self.take_out(run, &import).await?;
            self.finish(run, &import, done).await?;
        }
        self.index(run, Phase::Index, done).await?;
        index_builds::vacuum(&self.pool).await.map_err(JobError::retry)?;
        views::refresh(&self.pool).await.map_err(JobError::retry)?;
        Ok(Outcome::Done(json!({"import_id": import.id})))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let params: Params = serde_json::from_value(job.params.clone()).context("the job's parameters")?;
        let actor = job.user.as_deref().unwrap_or("unknown");
        let details =
            json!({"state": job.state.name(), "error": job.error, "contacts": job.progress.successful});
        audit::record(conn, actor, "import_rolled_back", Some(&params.import_id.to_string()), &details)
            .await?;
        Ok(())
    }
}

impl RollBackImports {
    async fn import(&self, job: &Job) -> Result<Import, JobError> {
        let params: Params = serde_json::from_value(job.params.clone()).map_err(JobError::fail)?;
        let import = imports::get(&self.pool, params.import_id).await.map_err(JobError::retry)?;
        let import =
            import.ok_or_else(|| JobError::fail(anyhow!("there is no import {}", params.import_id)))?;
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        let its_job = jobs::get(&mut conn, import.id).await.map_err(JobError::retry)?;
        if its_job.is_some_and(|job| matches!(job.state, State::Pending | State::Running)) {
            return Err(JobError::fail(anyhow!("La importación no ha terminado; cancélela primero")));
        }
        Ok(import)
    }

    /// Values back, contacts out; gives how many contacts went.
    async fn take_out(&self, run: &JobRun, import: &Import) -> Result<i64, JobError> {
        let number = import.number;
        let mut patient = self.patient().await.map_err(JobError::retry)?;
        let alone = rollback::is_alone(&mut patient, number).await.map_err(JobError::retry)?;
        patient.commit().await.map_err(JobError::retry)?;
        if alone {
            // Emptied in the transaction that marks the import.
            return Ok(run.job.progress.successful);
        }
        // An import that was cancelled in the midst of a load left none.
        self.index(run, Phase::Prepare, run.job.progress.successful).await?;
        let mut done = run.job.progress.successful;
        loop {
            let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
            let restored =
                rollback::restore(&mut transaction, number, BATCH).await.map_err(JobError::retry)?;
            if restored == 0 {
                break;
            }
            done += restored;
            self.commit(run, transaction, Phase::Restore, done).await?;
        }
        let mut patient = self.patient().await.map_err(JobError::retry)?;
        let bounds = rollback::bounds(&mut patient, number).await.map_err(JobError::retry)?;
        patient.commit().await.map_err(JobError::retry)?;
        let Some((first, last)) = bounds else { return Ok(done) };
        for from in (first..=last).step_by(BATCH as usize) {
            let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
            let removed = rollback::remove(&mut transaction, number, from, from + BATCH - 1).await;
            done += i64::try_from(removed.map_err(JobError::retry)?).map_err(JobError::fail)?;
            self.commit(run, transaction, Phase::Remove, done).await?;
        }
        Ok(done)
    }

    /// Builds the indexes that are not there.
    async fn index(&self, run: &JobRun, phase: Phase, done: i64) -> Result<(), JobError> {
        let there = indexes::count(&self.pool, indexes::ALL).await.map_err(JobError::retry)?;
        if there == indexes::ALL.len() {
            return Ok(());
        }
        let transaction = self.pool.begin().await.map_err(JobError::retry)?;
        let there = i64::try_from(there).map_err(JobError::fail)?;
        self.commit_at(run, transaction, Position::new(phase as u32, there), phase, done).await?;
        index_builds::build(&self.pool, indexes::ALL, self.settings.index_builders)
            .await
            .map_err(JobError::Retry)
    }

    /// For statements that look at every contact, which takes longer than a statement may.
    async fn patient(&self) -> sqlx::Result<PgTransaction<'_>> {
        let mut transaction = self.pool.begin().await?;
        batches::relax(&mut transaction).await?;
        Ok(transaction)
    }

    /// Commits what brought the rollback so many contacts further.
    async fn commit(
        &self,
        run: &JobRun,
        transaction: PgTransaction<'_>,
        phase: Phase,
        done: i64,
    ) -> Result<(), JobError> {
        self.commit_at(run, transaction, Position::new(phase as u32, done), phase, done).await
    }

    async fn commit_at(
        &self,
        run: &JobRun,
        mut transaction: PgTransaction<'_>,
        position: Position,
        phase: Phase,
        done: i64,
    ) -> Result<(), JobError> {
        let progress = Progress { total: None, processed: done, successful: done, failed: 0 };
        let checkpoint = json!({"step": phase.name(), "done": done});
        run.checkpoint(&mut transaction, &checkpoint, position, &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        run.proceed()
    }

    async fn finish(&self, run: &JobRun, import: &Import, done: i64) -> Result<(), JobError> {
        let mut transaction = self.patient().await.map_err(JobError::retry)?;
        if rollback::is_alone(&mut transaction, import.number).await.map_err(JobError::retry)? {
            rollback::empty(&mut transaction).await.map_err(JobError::retry)?;
        }
        rollback::finish(&mut transaction, import.number).await.map_err(JobError::retry)?;
        self.commit(run, transaction, Phase::Finish, done).await
    }
}
