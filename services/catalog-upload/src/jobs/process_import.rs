//! `ProcessImport`: works one import off, from the file in S3 to the last row's outcome.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use chassis::{
    db::Database,
    s3::{self, DownloadError},
};
use contracts::catalog::v1::{ImportCompleted, ImportFailed, ImportSummary, ProcessImport};
use failpoints::Point;
use jobs::{Job, JobRun, Outcome, Progress, Runner, State, Sweeper, Work};
use messaging::{Backoff, Context, Handler, JobError};
use outbox::Meta;
use sea_orm::sqlx::{PgConnection, PgPool};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempPath;
use uuid::Uuid;

use super::{
    batches::{self, Batch},
    write_batch::write_batch,
};
use crate::{
    SERVICE,
    config::ImportSettings,
    domain::{ImportContext, Summary},
    files::{FileError, FileKind},
    live::Statuses,
    status::{ImportResult, Resumen, Status},
    storage::imports::{self, Action, Import, LISTED},
};

/// The kind of an import's job row.
pub const KIND: &str = "catalog.imports";

/// Works imports off.
#[derive(Clone)]
pub struct ProcessImports {
    pub runner: Runner,
    pub database: Database,
    pub statuses: Statuses,
    pub s3: aws_sdk_s3::Client,
    pub bucket: String,
    pub settings: Arc<ImportSettings>,
}

/// Where an import goes on after its worker died: written with each batch.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Checkpoint {
    /// The sheet's last row whose outcome is recorded.
    last_row: u32,
    total: u64,
    accepted: u64,
    rejected: u64,
    duplicates: u64,
    created: u64,
    updated: u64,
}

impl Checkpoint {
    fn new(last_row: u32, summary: &Summary) -> Self {
        let Summary { total, accepted, rejected, duplicates, created, updated } = *summary;
        Self { last_row, total, accepted, rejected, duplicates, created, updated }
    }

    const fn summary(&self) -> Summary {
        let Self { total, accepted, rejected, duplicates, created, updated, .. } = *self;
        Summary { total, accepted, rejected, duplicates, created, updated }
    }
}

/// Runs the jobs of this process. A job that fails without progress comes back after 1 s, 5 s, 25 s, 2 min,
/// and then every 5 min.
pub fn runner(pool: PgPool, settings: &ImportSettings) -> Runner {
    let steps = [1, 5, 25, 120, 300].map(Duration::from_secs).to_vec();
    Runner::new(pool).lease(settings.lease).backoff(Backoff { steps })
}

/// Nudges imports that are due and that nobody works on.
pub fn sweeper(pool: PgPool, settings: &ImportSettings) -> Sweeper<ProcessImport, fn(&Job) -> ProcessImport> {
    fn nudge(job: &Job) -> ProcessImport {
        ProcessImport { task_id: job.id.to_string() }
    }
    Sweeper::new(pool, SERVICE, KIND, nudge as fn(&Job) -> ProcessImport).again_after(settings.lease)
}

#[async_trait]
impl Handler<ProcessImport> for ProcessImports {
    async fn handle(&self, message: ProcessImport, context: &Context) -> Result<(), JobError> {
        let id = Uuid::parse_str(&message.task_id)
            .with_context(|| format!("task_id {:?} is no UUID", message.task_id))
            .map_err(JobError::Fail)?;
        let done = self.runner.run(id, &context.shutdown, self).await;
        self.show(id).await;
        done
    }
}

#[async_trait]
impl Work for ProcessImports {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let import = imports::get(&self.database.pool, run.job.id)
            .await
            .map_err(JobError::retry)?
            .ok_or_else(|| JobError::fail(anyhow!("the job has no import")))?;
        self.statuses.put(import.version, &Status::of(&import)).await;
        let kind = FileKind::of(&import.filename).map_err(JobError::fail)?;
        let file = self.spool(&import.object_key).await?;

        let checkpoint = match &run.job.checkpoint {
            Some(value) => {
                serde_json::from_value(value.clone()).context("the checkpoint").map_err(JobError::Fail)?
            }
            None => Checkpoint::default(),
        };
        let mut summary = checkpoint.summary();
        let limits = self.settings.limits.clone();
        let rows = self.settings.batch_rows;
        let mut batches = batches::read(PathBuf::from(&*file), kind, limits, checkpoint.last_row, rows);
        while let Some(batch) = batches.recv().await {
            let batch = batch.map_err(file_error)?;
            summary = self.apply(run, &import, &batch, summary).await?;
            run.proceed()?;
        }
        self.result(&import, &summary).await.map(Outcome::Done).map_err(JobError::Retry)
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let import = imports::get(&mut *conn, job.id).await?.context("the job has no import")?;
        let meta = Meta::about(job.id);
        let version = u64::try_from(job.version)?;
        let Import { proveedor_id, filename, .. } = import;
        let task_id = job.id.to_string();
        if job.state == State::Completed {
            let result: ImportResult = serde_json::from_value(job.result.clone().unwrap_or_default())?;
            imports::record_summary(conn, job.id, &result.resumen).await?;
            let summary = Some(event_summary(&result.resumen)?);
            let event = ImportCompleted { task_id, proveedor_id, filename, summary, version };
            outbox::publish(conn, SERVICE, &event, meta).await?;
        } else {
            let reason = match job.state {
                State::Cancelled => "Carga cancelada".to_owned(),
                _ => job.error.clone().unwrap_or_default(),
            };
            let event = ImportFailed { task_id, proveedor_id, filename, reason, version };
            outbox::publish(conn, SERVICE, &event, meta).await?;
        }
        Ok(())
    }
}

impl ProcessImports {
    /// Writes a batch, its ledger and its checkpoint in one transaction; gives the sums so far.
    async fn apply(
        &self,
        run: &JobRun,
        import: &Import,
        batch: &Batch,
        before: Summary,
    ) -> Result<Summary, JobError> {
        let context = ImportContext {
            import: import.id,
            proveedor_id: &import.proveedor_id,
            replace: import.replace_duplicates,
        };
        let mut transaction = self.database.pool.begin().await.map_err(JobError::retry)?;
        let mut summary = before;
        summary.add(&write_batch(&mut transaction, context, batch).await.map_err(JobError::retry)?);
        let checkpoint =
            serde_json::to_value(Checkpoint::new(batch.last_row, &summary)).map_err(JobError::fail)?;
        let progress = Progress {
            total: batch.total_hint.map(|total| total.max(summary.total) as i64),
            processed: summary.total as i64,
            successful: summary.accepted as i64,
            failed: summary.rejected as i64,
        };
        let version = run.checkpoint(&mut transaction, &checkpoint, &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        tracing::debug!(
            import = %import.id,
            rows = batch.rows(),
            warnings = batch.warnings.len(),
            last_row = batch.last_row,
            "batch written"
        );

        let shown = Import {
            state: State::Running.name().to_owned(),
            total_rows: progress.total,
            processed: progress.processed,
            successful: progress.successful,
            failed: progress.failed,
            updated_at: chrono::Utc::now(),
            ..import.clone()
        };
        self.statuses.put(version, &Status::of(&shown)).await;
        Ok(summary)
    }

    /// Brings the file to disk: a workbook is a zip archive, which is read from its end.
    async fn spool(&self, object_key: &str) -> Result<TempPath, JobError> {
        let file = tempfile::Builder::new()
            .prefix("lote-import-")
            .tempfile_in(&self.settings.spool)
            .with_context(|| format!("no file can be made in {}", self.settings.spool.display()))
            .map_err(JobError::Retry)?
            .into_temp_path();
        match s3::download(&self.s3, &self.bucket, object_key, &file).await {
            Ok(_) => Ok(file),
            Err(DownloadError::Missing { .. }) => Err(JobError::fail(anyhow!(
                "El archivo original ya no está en el almacenamiento. Vuelva a subirlo"
            ))),
            Err(error) => Err(JobError::retry(error)),
        }
    }

    async fn result(&self, import: &Import, summary: &Summary) -> anyhow::Result<Value> {
        let mut conn = self.database.pool.acquire().await?;
        let listed = LISTED as u64;
        let result = ImportResult {
            mensaje: "Carga masiva completada".into(),
            resumen: Resumen::from(summary),
            productos_creados: imports::first_changes(&mut conn, import.id, Action::Created).await?,
            productos_actualizados: imports::first_changes(&mut conn, import.id, Action::Updated).await?,
            errores: imports::first_rejections(&mut conn, import.id).await?,
            truncado: [summary.created, summary.updated, summary.rejected]
                .iter()
                .any(|&count| count > listed),
        };
        Ok(serde_json::to_value(result)?)
    }

    /// Mirrors what the row says now.
    async fn show(&self, id: Uuid) {
        match imports::get(&self.database.pool, id).await {
            Ok(Some(import)) => self.statuses.put(import.version, &Status::of(&import)).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(import = %id, %error, "the status was not mirrored"),
        }
    }
}

/// What is wrong with a file stays wrong; what is wrong with our disk may not.
fn file_error(error: FileError) -> JobError {
    if error.is_transient() { JobError::retry(error) } else { JobError::fail(error) }
}

fn event_summary(resumen: &Resumen) -> anyhow::Result<ImportSummary> {
    Ok(ImportSummary {
        total: resumen.total.try_into()?,
        accepted: resumen.exitosos.try_into()?,
        rejected: resumen.rechazados.try_into()?,
        duplicates: resumen.duplicados.try_into()?,
        created: resumen.productos_creados.try_into()?,
        updated: resumen.productos_actualizados.try_into()?,
    })
}
