//! Processes one import, from the file in S3 to the last row's outcome.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use chassis::s3::{self, DownloadError};
use contracts::{
    Message as _,
    catalog::v1::{ImportCompleted, ImportFailed, ImportSummary, ProcessImport},
    queues::CATALOG_IMPORTS,
};
use failpoints::Point;
use jobs::{Job, JobKind, JobRun, Outcome, Progress, State, Work};
use messaging::JobError;
use outbox::Meta;
use sea_orm::sqlx::{PgConnection, Postgres, Transaction};
use serde_json::Value;
use tempfile::TempPath;
use uuid::Uuid;

use super::{
    batches::{self, Batch, Batches},
    checkpoint::{Checkpoint, Phase},
    plan_batch::plan_batch,
    write_batch::write_batch,
};
use crate::{
    Resources, SERVICE,
    config::ImportSettings,
    domain::{ImportContext, Summary},
    files::{FileError, FileKind},
    status::Status,
    storage::{
        batch as table,
        imports::{self, Import, Kind, Options},
        ledger, plan,
        results::{self, Ending},
    },
};

/// How often a whole file is planned anew because the catalog changed under it, in one attempt.
const PLANS: usize = 3;

/// Imports and dry runs: each job is one of `imports`.
pub fn kind(settings: &ImportSettings) -> JobKind {
    let kind = super::kind("catalog.imports", &CATALOG_IMPORTS, settings);
    JobKind { replaces: Some(ProcessImport::TYPE), ..kind }
}

/// Processes imports.
pub struct ProcessImports {
    pub resources: Resources,
}

#[async_trait]
impl Work for ProcessImports {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let import = imports::get(&self.resources.database.pool, run.job.id)
            .await
            .map_err(JobError::retry)?
            .ok_or_else(|| JobError::fail(anyhow!("the job has no import")))?;
        self.resources.statuses.put(import.version, &Status::of(&import)).await;
        let mut checkpoint = Checkpoint::of(&run.job, &import.options).map_err(JobError::Fail)?;
        match checkpoint.phase {
            Phase::Refused => return Err(refused(checkpoint.errors)),
            Phase::Written => return Ok(Outcome::Done(Value::Null)),
            Phase::Write | Phase::Plan => {}
        }
        let kind = FileKind::of(&import.source.filename).map_err(JobError::fail)?;
        let file = self.resources.spool(&import.source.object_key).await?;
        let pass = Pass { resources: &self.resources, run, import: &import, file: &file, kind };
        if import.options.all_or_nothing && import.options.kind == Kind::Import {
            pass.all_or_nothing(&mut checkpoint).await?;
        } else {
            pass.by_batches(&mut checkpoint).await?;
        }
        Ok(Outcome::Done(Value::Null))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let import = imports::get(&mut *conn, job.id).await?.context("the job has no import")?;
        let Options { kind, .. } = import.options;
        let checkpoint = Checkpoint::of(job, &import.options)?;
        let summary = checkpoint.done(kind);
        let ending = if job.state == State::Completed { Ending::Complete } else { Ending::Partial };
        if ending == Ending::Complete || checkpoint.summary().total > 0 {
            let result =
                results::of(conn, job.id, kind, ending, &summary, checkpoint.ignored.clone()).await?;
            imports::record_end(conn, job.id, kind, &summary, &result).await?;
        }
        if kind != Kind::Import {
            return Ok(());
        }
        let meta = Meta::about(job.id);
        let version = u64::try_from(job.version)?;
        let (proveedor_id, filename) = (import.source.proveedor_id.clone(), import.source.filename.clone());
        let task_id = job.id.to_string();
        if job.state == State::Completed {
            let summary = Some(event_summary(&summary)?);
            let event = ImportCompleted { task_id, proveedor_id, filename, summary, version };
            outbox::publish(conn, SERVICE, &event, meta).await?;
        } else {
            let shown = Status::of(&Import {
                state: job.state.name().to_owned(),
                error: job.error.clone(),
                successful: job.progress.successful,
                ..import
            });
            let reason = shown.error.unwrap_or_default();
            let event = ImportFailed { task_id, proveedor_id, filename, reason, version };
            outbox::publish(conn, SERVICE, &event, meta).await?;
        }
        Ok(())
    }

    async fn after(&self, job: Uuid) {
        self.resources.show(job).await;
    }
}

/// One claim's work on an import.
pub(super) struct Pass<'a> {
    pub(super) resources: &'a Resources,
    pub(super) run: &'a JobRun,
    pub(super) import: &'a Import,
    file: &'a Path,
    kind: FileKind,
}

impl Pass<'_> {
    /// Goes on after the checkpoint, each batch in a transaction of its own.
    async fn by_batches(&self, checkpoint: &mut Checkpoint) -> Result<(), JobError> {
        let mut batches = self.read(checkpoint.last_row);
        if checkpoint.phase == Phase::Write && checkpoint.last_row == 0 {
            let left = self.write_ahead(&mut batches, checkpoint).await?;
            for batch in left.read {
                self.next(&batch, checkpoint).await?;
            }
            if let Some(end) = left.end {
                return end;
            }
        }
        while let Some(batch) = batches.recv().await {
            let batch = self.selected(batch.map_err(file_error)?, checkpoint.last_row).await?;
            self.next(&batch, checkpoint).await?;
        }
        Ok(())
    }

    async fn next(&self, batch: &Batch, checkpoint: &mut Checkpoint) -> Result<(), JobError> {
        *checkpoint = self.apply(batch, checkpoint).await?;
        self.run.proceed()
    }

    /// Writes a batch, its ledger and its checkpoint in one transaction.
    async fn apply(&self, batch: &Batch, before: &Checkpoint) -> Result<Checkpoint, JobError> {
        let mut transaction = self.resources.database.pool.begin().await.map_err(JobError::retry)?;
        let written = async {
            if before.phase == Phase::Plan {
                return plan_batch(&mut transaction, self.import, batch).await;
            }
            let version = table::begin(&mut transaction).await?;
            write_batch(&mut transaction, self.import, version, batch).await
        };
        let written = written.await.map_err(JobError::Retry)?;
        self.commit(transaction, batch, before, &written).await
    }

    /// Commits a batch that is written, with its warnings and its checkpoint.
    pub(super) async fn commit(
        &self,
        mut transaction: Transaction<'_, Postgres>,
        batch: &Batch,
        before: &Checkpoint,
        written: &Summary,
    ) -> Result<Checkpoint, JobError> {
        let import = self.import;
        ledger::record_warnings(&mut transaction, import.id, &batch.warnings)
            .await
            .map_err(JobError::retry)?;
        let mut summary = before.summary();
        summary.add(written);
        let mut checkpoint = before.clone().with(&summary);
        checkpoint.last_row = batch.last_row;
        checkpoint.ignored.clone_from(&batch.ignored_columns);
        let total = batch.total_hint.filter(|_| import.options.corrects.is_none());
        let progress = checkpoint.progress(total);
        let version = self.checkpoint(&mut transaction, &checkpoint, &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        tracing::debug!(import = %import.id, rows = batch.rows(), last_row = batch.last_row, "batch written");
        self.show(version, &progress);
        Ok(checkpoint)
    }

    /// Two passes over the file: what would become of each row, and, if none is refused, all of them in one
    /// transaction.
    async fn all_or_nothing(&self, checkpoint: &mut Checkpoint) -> Result<(), JobError> {
        for _ in 0..PLANS {
            if let Err(error) = self.by_batches(checkpoint).await {
                if let JobError::Fail(error) = error {
                    // The file ends in the middle: its good rows are refused with it.
                    self.refuse(checkpoint).await?;
                    return Err(JobError::Fail(error));
                }
                return Err(error);
            }
            if checkpoint.summary().rejected > 0 {
                self.refuse(checkpoint).await?;
                return Err(refused(checkpoint.errors));
            }
            if self.write_whole(checkpoint).await? {
                return Ok(());
            }
            // Somebody else's products came in between: see what becomes of the rows now.
            let mut transaction = self.resources.database.pool.begin().await.map_err(JobError::retry)?;
            plan::forget(&mut transaction, self.import.id).await.map_err(JobError::retry)?;
            *checkpoint = Checkpoint::start(&self.import.options);
            self.checkpoint(&mut transaction, checkpoint, &Progress::default()).await?;
            transaction.commit().await.map_err(JobError::retry)?;
        }
        Err(JobError::Retry(anyhow!("the catalog changed under the plan {PLANS} times")))
    }

    /// Writes the whole file in one transaction, which keeps other imports waiting. False: a row was
    /// refused, and nothing is written.
    async fn write_whole(&self, checkpoint: &mut Checkpoint) -> Result<bool, JobError> {
        let mut transaction = self.resources.database.pool.begin().await.map_err(JobError::retry)?;
        let version = table::begin(&mut transaction).await.map_err(JobError::retry)?;
        let mut summary = Summary::default();
        let mut batches = self.read(0);
        let mut last_row = 0;
        while let Some(batch) = batches.recv().await {
            let batch = self.selected(batch.map_err(file_error)?, last_row).await?;
            last_row = batch.last_row;
            let written = write_batch(&mut transaction, self.import, version, &batch).await;
            summary.add(&written.map_err(JobError::Retry)?);
            if summary.rejected > 0 {
                return Ok(false);
            }
            self.run.proceed()?;
        }
        plan::carried_out(&mut transaction, self.import.id).await.map_err(JobError::retry)?;
        let mut written = checkpoint.clone().with(&summary);
        written.phase = Phase::Written;
        let progress = written.progress(Some(summary.total));
        let version = self.checkpoint(&mut transaction, &written, &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        *checkpoint = written;
        self.show(version, &progress);
        Ok(true)
    }

    /// Refuses the rows that were planned, because of those that have errors.
    async fn refuse(&self, checkpoint: &mut Checkpoint) -> Result<(), JobError> {
        let mut transaction = self.resources.database.pool.begin().await.map_err(JobError::retry)?;
        let planned = checkpoint.summary();
        let summary =
            plan::refuse(&mut transaction, self.import.id, &planned).await.map_err(JobError::retry)?;
        let mut refused = checkpoint.clone().with(&summary);
        (refused.phase, refused.errors) = (Phase::Refused, planned.rejected);
        let progress = refused.progress(Some(summary.total));
        self.checkpoint(&mut transaction, &refused, &progress).await?;
        transaction.commit().await.map_err(JobError::retry)?;
        *checkpoint = refused;
        Ok(())
    }

    fn read(&self, after_row: u32) -> Batches {
        let settings = &self.resources.settings;
        let path = PathBuf::from(self.file);
        batches::read(path, self.kind, settings.limits.clone(), after_row, settings.batch_rows)
    }

    /// Of a correction, the rows that the first import had rejected; else all.
    pub(super) async fn selected(&self, mut batch: Batch, after_row: u32) -> Result<Batch, JobError> {
        if let Some(first) = self.import.options.corrects {
            let pool = &self.resources.database.pool;
            let wanted = ledger::rejected_between(pool, first, after_row + 1, batch.last_row);
            batch.keep(&wanted.await.map_err(JobError::retry)?);
        }
        Ok(batch)
    }

    async fn checkpoint(
        &self,
        conn: &mut PgConnection,
        checkpoint: &Checkpoint,
        progress: &Progress,
    ) -> Result<i64, JobError> {
        let value = checkpoint.to_value().map_err(JobError::Fail)?;
        self.run.checkpoint(conn, &value, checkpoint.position(), progress).await
    }

    /// Mirrors how far the import is, and doesn't wait for it: an older version never replaces a later one.
    fn show(&self, version: i64, progress: &Progress) {
        let status = Status::of(&self.import.running(progress));
        let statuses = self.resources.statuses.clone();
        tokio::spawn(async move { statuses.put(version, &status).await });
    }
}

impl Resources {
    /// Brings the file to disk: a workbook is a zip archive, which is read from its end.
    pub(super) async fn spool(&self, object_key: &str) -> Result<TempPath, JobError> {
        let file = self.temporary().map_err(JobError::Retry)?;
        match s3::download(&self.s3, &self.bucket, object_key, &file).await {
            Ok(_) => Ok(file),
            Err(DownloadError::Missing { .. }) => Err(JobError::fail(anyhow!(
                "El archivo original ya no está en el almacenamiento. Vuelva a subirlo"
            ))),
            Err(error) => Err(JobError::retry(error)),
        }
    }

    /// An empty file in the spool, removed when it is dropped.
    pub(super) fn temporary(&self) -> anyhow::Result<TempPath> {
        let file = tempfile::Builder::new().prefix("lote-import-").tempfile_in(&self.settings.spool);
        Ok(file
            .with_context(|| format!("no file can be made in {}", self.settings.spool.display()))?
            .into_temp_path())
    }

    /// Mirrors what the row says now.
    pub(crate) async fn show(&self, id: Uuid) {
        match imports::get(&self.database.pool, id).await {
            Ok(Some(import)) => self.statuses.put(import.version, &Status::of(&import)).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(import = %id, %error, "the status was not mirrored"),
        }
    }
}

impl<'a> From<&'a Import> for ImportContext<'a> {
    fn from(import: &'a Import) -> Self {
        Self { proveedor_id: &import.source.proveedor_id, replace: import.options.replace_duplicates }
    }
}

/// What is wrong with a file stays wrong; what is wrong with our disk may not.
pub fn file_error(error: FileError) -> JobError {
    if error.is_transient() { JobError::retry(error) } else { JobError::fail(error) }
}

fn refused(errors: u64) -> JobError {
    JobError::fail(anyhow!(
        "El archivo se rechazó completo: {errors} filas tienen errores y no se aplicó ninguna. \
         Corríjalas y vuelva a cargarlo"
    ))
}

fn event_summary(summary: &Summary) -> anyhow::Result<ImportSummary> {
    Ok(ImportSummary {
        total: summary.total.try_into()?,
        accepted: summary.accepted.try_into()?,
        rejected: summary.rejected.try_into()?,
        duplicates: summary.duplicates.try_into()?,
        created: summary.created.try_into()?,
        updated: summary.updated.try_into()?,
    })
}
