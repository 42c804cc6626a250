//! Takes back what one import did, from its last row to its first. What somebody changed
//! since stays as it is, and is told.

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use chassis::db::{Database, Orm};
use contracts::{
    Message as _,
    catalog::v1::{ImportUndone, UndoImport},
    queues::CATALOG_IMPORTS,
};
use failpoints::Point;
use jobs::{Job, JobKind, JobRun, Outcome, Position, Progress, State, Work};
use messaging::JobError;
use outbox::Meta;
use sea_orm::sqlx::PgConnection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Resources, SERVICE,
    changes::{Change as Changed, publish_changes},
    config::ImportSettings,
    domain::{
        Column, RowError, Summary,
        undo::{Change, Reversal, reverse},
    },
    results::{self, Ending},
    status::Status,
    storage::{
        batch as table,
        imports::{self, Import, Kind},
        ledger, undo,
    },
};

/// Undos: each job is one of `imports`, too.
pub fn kind(settings: &ImportSettings) -> JobKind {
    let kind = super::kind("catalog.undos", &CATALOG_IMPORTS, settings);
    JobKind { replaces: Some(UndoImport::TYPE), ..kind }
}

/// Takes imports back.
pub struct UndoImports {
    pub resources: Resources,
}

/// Where an undo goes on after its worker died.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Checkpoint {
    /// Changes of this row of the file and of later ones are dealt with.
    before_row: u32,
    /// Changes that the import made.
    total: u64,
    removed: u64,
    restored: u64,
    kept: u64,
}

impl Checkpoint {
    const fn start(total: u64) -> Self {
        Self { before_row: u32::MAX, total, removed: 0, restored: 0, kept: 0 }
    }

    fn of(job: &Job) -> anyhow::Result<Option<Self>> {
        job.checkpoint_as().context("the checkpoint")
    }

    /// How near to its end it is: an undo goes from the last row to the first.
    const fn position(&self) -> Position {
        Position::new(0, (u32::MAX - self.before_row) as i64)
    }

    /// Removals stand where an import counts what it created, restorations where it counts what it updated.
    const fn summary(&self) -> Summary {
        Summary {
            total: self.removed + self.restored + self.kept,
            accepted: self.removed + self.restored,
            rejected: self.kept,
            duplicates: self.restored,
            created: self.removed,
            updated: self.restored,
            unchanged: 0,
        }
    }
}

#[async_trait]
impl Work for UndoImports {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let Database { pool, orm, .. } = &self.resources.database;
        let this = imports::get(orm, run.job.id)
            .await
            .map_err(JobError::retry)?
            .ok_or_else(|| JobError::fail(anyhow!("the job has no import")))?;
        let undone = this.options.undoes.ok_or_else(|| {
            JobError::fail(anyhow!(
                "Los datos de la carga original ya fueron eliminados; no hay qué revertir"
            ))
        })?;
        let mut checkpoint = match Checkpoint::of(&run.job).map_err(JobError::Fail)? {
            Some(checkpoint) => checkpoint,
            None => Checkpoint::start(undo::count(pool, undone).await.map_err(JobError::retry)?),
        };
        let size = self.resources.settings.batch_rows;
        loop {
            let changes = undo::changes_before(pool, undone, checkpoint.before_row, size);
            let changes = changes.await.map_err(JobError::retry)?;
            let Some(last) = changes.last().map(|change| change.row) else { break };
            let batch = Batch { undone, before_row: checkpoint.before_row, size, changes };
            checkpoint.before_row = last;
            self.take_back(run, &this, &batch, &mut checkpoint).await?;
            run.proceed()?;
        }
        Ok(Outcome::Done(Value::Null))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let this = imports::get(&Orm::on(conn), job.id).await?.context("the job has no import")?;
        let checkpoint = Checkpoint::of(job)?.unwrap_or_else(|| Checkpoint::start(0));
        let summary = checkpoint.summary();
        let ending = if job.state == State::Completed { Ending::Complete } else { Ending::Partial };
        let result = results::of(conn, job.id, Kind::Undo, ending, &summary, Vec::new()).await?;
        imports::record_end(conn, job.id, Kind::Undo, &summary, &result).await?;
        if ending == Ending::Complete {
            let event = ImportUndone {
                task_id: job.id.to_string(),
                import_id: this.options.undoes.map(|id| id.to_string()).unwrap_or_default(),
                proveedor_id: this.source.proveedor_id,
                filename: this.source.filename,
                removed: checkpoint.removed.try_into()?,
                restored: checkpoint.restored.try_into()?,
                kept: checkpoint.kept.try_into()?,
                version: job.version.try_into()?,
            };
            outbox::publish(conn, SERVICE, &event, Meta::about(job.id)).await?;
        }
        Ok(())
    }

    async fn after(&self, job: Uuid) {
        self.resources.show(job).await;
    }
}

impl UndoImports {
    /// Takes a batch of changes back, with its ledger and checkpoint, in one transaction.
    async fn take_back(
        &self,
        run: &JobRun,
        this: &Import,
        batch: &Batch,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), JobError> {
        let mut transaction = super::begin_alone(&self.resources.database.pool, run).await?;
        let written = write(&mut transaction, this, batch).await.map_err(JobError::Retry)?;
        checkpoint.removed += written.removed;
        checkpoint.restored += written.restored;
        checkpoint.kept += written.kept;
        let summary = checkpoint.summary();
        let progress = Progress {
            total: Some(checkpoint.total as i64),
            processed: summary.total as i64,
            successful: summary.accepted as i64,
            failed: summary.rejected as i64,
        };
        let value = serde_json::to_value(&*checkpoint).map_err(JobError::fail)?;
        let version = run.checkpoint(&mut transaction, &value, checkpoint.position(), &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        self.resources.statuses.put(version, &Status::of(&this.running(&progress))).await;
        Ok(())
    }
}

/// Changes of an import that are taken back at once, and how they were read.
struct Batch {
    undone: Uuid,
    before_row: u32,
    size: usize,
    changes: Vec<Change>,
}

/// What became of a batch.
struct Written {
    removed: u64,
    restored: u64,
    kept: u64,
}

/// Takes a batch back in a transaction that has the catalog alone.
async fn write(conn: &mut PgConnection, this: &Import, batch: &Batch) -> anyhow::Result<Written> {
    let Batch { undone, before_row, size, ref changes } = *batch;
    let current = undo::current(conn, &this.source.proveedor_id, undone, changes).await?;
    // Above that of whoever had the products until now.
    let version = table::next_version(conn).await?;
    let (mut removed, mut restored, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (change, reversal) in changes.iter().zip(reverse(changes, &current)) {
        let id = change.product_id.as_str();
        match reversal {
            Reversal::Remove => removed.push(change),
            Reversal::Restore => restored.push(change),
            Reversal::Keep(why) => kept.push(RowError {
                row: change.row,
                id: None,
                code: why.code(),
                column: Some(Column::Id),
                value: Some(RowError::excerpt(id)),
                message: why.message(id),
            }),
        }
    }
    undo::remove(conn, this.id, &removed, version).await?;
    undo::restore(conn, this.id, undone, (before_row, size), &restored, version).await?;
    ledger::record_rejections(conn, this.id, kept.iter()).await?;
    let deleted = removed.iter().map(|change| (change.product_id.as_str(), Changed::Deleted));
    let updated = restored.iter().map(|change| (change.product_id.as_str(), Changed::Updated));
    let (supplier, task) = (&this.source.proveedor_id, this.id.to_string());
    publish_changes(conn, supplier, &task, version, deleted.chain(updated)).await?;
    Ok(Written { removed: removed.len() as u64, restored: restored.len() as u64, kept: kept.len() as u64 })
}
