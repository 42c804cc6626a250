//! Processes one import, from the file in S3 to the last row's outcome.

mod batches;
mod checkpoint;
mod look_ahead;
mod plan_batch;
mod whole_file;
mod write_ahead;
mod write_batch;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use chassis::{
    db::Orm,
    s3::{self, DownloadError},
};
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
use uuid::Uuid;

use self::{
    batches::{Batch, Batches},
    checkpoint::{Checkpoint, Phase},
    plan_batch::plan_batch,
    write_batch::Written,
};
use crate::{
    Resources, SERVICE,
    config::ImportSettings,
    domain::{Claims, ImportContext, Summary},
    files::{FileError, FileKind, Others},
    metrics,
    results::{self, Ending},
    spool::Spooled,
    status::Status,
    storage::{
        claims as claimed,
        imports::{self, Import, Kind, Options},
        ledger,
    },
};

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
        let import = imports::get(&self.resources.database.orm, run.job.id)
            .await
            .map_err(JobError::retry)?
            .ok_or_else(|| JobError::fail(anyhow!("the job has no import")))?;
        self.resources.statuses.put(import.version, &Status::of(&import)).await;
        let mut checkpoint = Checkpoint::of(&run.job, &import.options).map_err(JobError::Fail)?;
        match checkpoint.phase {
            Phase::Refused => return Err(refused(&checkpoint)),
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
            pass.corrects_some(&checkpoint)?;
        }
        Ok(Outcome::Done(Value::Null))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let import = imports::get(&Orm::on(conn), job.id).await?.context("the job has no import")?;
        let Options { kind, .. } = import.options;
        let checkpoint = Checkpoint::of(job, &import.options)?;
        let summary = checkpoint.done(kind);
        let ending = if job.state == State::Completed { Ending::Complete } else { Ending::Partial };
        let mut result = import.result.clone();
        if ending == Ending::Complete || checkpoint.summary().total > 0 {
            let mut ended =
                results::of(conn, job.id, kind, ending, &summary, checkpoint.ignored.clone()).await?;
            ended.hojas_omitidas.clone_from(&checkpoint.omitted_sheets);
            let refuses = import.options.all_or_nothing && summary.rejected > 0;
            if kind == Kind::DryRun && ending == Ending::Complete && refuses {
                results::refuse_whole(&mut ended);
            }
            if let (Ending::Complete, Some(first)) = (&ending, import.options.corrects) {
                let rejected = imports::rejected(&Orm::on(conn), first).await?;
                ended.filas_ausentes = rejected.saturating_sub(summary.total);
            }
            imports::record_end(conn, job.id, kind, &summary, &ended).await?;
            result = Some(serde_json::to_value(ended)?);
        }
        if ending == Ending::Complete {
            // No row of the file is to come.
            claimed::forget(conn, job.id).await?;
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
                state: job.state,
                error: job.error.clone(),
                successful: job.progress.successful,
                result,
                ..import
            });
            let reason = shown.error.unwrap_or_default();
            let event = ImportFailed { task_id, proveedor_id, filename, reason, version };
            outbox::publish(conn, SERVICE, &event, meta).await?;
        }
        Ok(())
    }

    async fn committed(&self, job: &Job) {
        match imports::get(&self.resources.database.orm, job.id).await {
            Ok(Some(import)) => metrics::count_import(import.options.kind, job.state),
            Ok(None) => {}
            Err(error) => tracing::warn!(import = %job.id, %error, "the import's end was not counted"),
        }
    }

    async fn after(&self, job: Uuid) {
        self.resources.show(job).await;
    }
}

/// A file's rows that are still to be written.
struct Rows {
    /// Batches that were read already, and then how the reading ended, if badly.
    read: VecDeque<Result<Arc<Batch>, JobError>>,
    batches: Batches,
    /// The last row of the batch before.
    last_row: u32,
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
        let mut claims = self.claims(checkpoint).await?;
        let mut rows = Rows {
            batches: self.read(checkpoint.last_row, Others::Named),
            read: VecDeque::new(),
            last_row: checkpoint.last_row,
        };
        if checkpoint.phase == Phase::Plan {
            while let Some(batch) = self.next(&mut rows).await? {
                let mut transaction = self.resources.database.pool.begin().await.map_err(JobError::retry)?;
                let planned = plan_batch(&mut transaction, self.import, &batch, &claims).await;
                let planned = planned.map_err(JobError::Retry)?;
                *checkpoint = self.commit(transaction, &batch, checkpoint, &planned).await?;
                claims.take(planned.accepted);
                self.run.proceed()?;
            }
            return Ok(());
        }
        if checkpoint.last_row == 0 {
            let left = self.write_ahead(&mut rows.batches, checkpoint, &mut claims).await?;
            rows.last_row = left.read.last().map_or(checkpoint.last_row, |batch| batch.last_row);
            rows.read = left.read.into_iter().map(Ok).collect();
            match left.end {
                Some(Ok(())) => rows.batches.close(),
                // What was read before the error is written first.
                Some(Err(error)) => rows.read.push_back(Err(error)),
                None => {}
            }
        }
        self.look_ahead(rows, checkpoint, &mut claims).await
    }

    /// Whether a correction has any row that it is to correct.
    fn corrects_some(&self, checkpoint: &Checkpoint) -> Result<(), JobError> {
        let corrected = checkpoint.corrected > 0 || checkpoint.summary().accepted > 0;
        if corrected || self.import.options.corrects.is_none() {
            return Ok(());
        }
        Err(JobError::fail(anyhow!(
            "Ninguna fila del archivo es una de las rechazadas: conserve el número y el id de cada fila, o cargue el \
             archivo sin la opción de corregir"
        )))
    }

    /// What the rows up to the checkpoint have claimed.
    async fn claims(&self, checkpoint: &Checkpoint) -> Result<Claims, JobError> {
        let claims = Claims::nothing(self.resources.settings.limits.max_rows);
        if checkpoint.last_row == 0 {
            return Ok(claims);
        }
        claimed::read(&self.resources.database.pool, self.import.id, claims).await.map_err(JobError::retry)
    }

    /// The next batch, of the rows that this import reads.
    async fn next(&self, rows: &mut Rows) -> Result<Option<Arc<Batch>>, JobError> {
        if let Some(read) = rows.read.pop_front() {
            return read.map(Some);
        }
        let Some(batch) = rows.batches.recv().await else { return Ok(None) };
        let batch = self.selected(batch.map_err(file_error)?, rows.last_row).await?;
        rows.last_row = batch.last_row;
        Ok(Some(Arc::new(batch)))
    }

    /// Commits a batch that is written, with its warnings and its checkpoint.
    pub(super) async fn commit(
        &self,
        mut transaction: Transaction<'_, Postgres>,
        batch: &Batch,
        before: &Checkpoint,
        written: &Written,
    ) -> Result<Checkpoint, JobError> {
        let import = self.import;
        claimed::record(&mut transaction, import.id, batch.last_row, &written.accepted)
            .await
            .map_err(JobError::retry)?;
        ledger::record_warnings(&mut transaction, import.id, &batch.warnings)
            .await
            .map_err(JobError::retry)?;
        let mut summary = before.summary();
        summary.add(&written.summary);
        let mut checkpoint = before.clone().with(&summary);
        checkpoint.last_row = batch.last_row;
        checkpoint.corrected += batch.corrected as u64;
        checkpoint.ignored.clone_from(&batch.ignored_columns);
        checkpoint.omitted_sheets.clone_from(&batch.omitted_sheets);
        let total = batch.total_hint.filter(|_| import.options.corrects.is_none());
        let progress = checkpoint.progress(total);
        let version = self.checkpoint(&mut transaction, &checkpoint, &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        if checkpoint.phase != Phase::Plan {
            metrics::count_rows(&written.summary);
        }
        tracing::debug!(import = %import.id, rows = batch.rows(), last_row = batch.last_row, "batch written");
        self.show(version, &progress);
        Ok(checkpoint)
    }

    fn read(&self, after_row: u32, others: Others) -> Batches {
        let settings = &self.resources.settings;
        let path = PathBuf::from(self.file);
        let sheet = (self.import.options.sheet.clone(), others);
        batches::read(path, self.kind, sheet, settings.limits.clone(), after_row, settings.batch_rows)
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
    pub(super) async fn spool(&self, object_key: &str) -> Result<Spooled, JobError> {
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
    pub(super) fn temporary(&self) -> anyhow::Result<Spooled> {
        let spool = &self.settings.spool;
        Spooled::new(spool).with_context(|| format!("no file can be made in {}", spool.display()))
    }

    /// Mirrors what the row says now.
    pub(crate) async fn show(&self, id: Uuid) {
        match imports::get(&self.database.orm, id).await {
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

/// Whether a job that failed has refused its file whole, so that there is nothing to go on with.
pub fn has_refused(job: &Job, options: &Options) -> anyhow::Result<bool> {
    Ok(options.kind != Kind::Undo && Checkpoint::of(job, options)?.phase == Phase::Refused)
}

fn refused(checkpoint: &Checkpoint) -> JobError {
    if let Some(reason) = &checkpoint.reason {
        return JobError::fail(anyhow!(reason.clone()));
    }
    let errors = checkpoint.errors;
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
