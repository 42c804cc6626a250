//! Makes the workbook in which a supplier finds what is wrong with their rows.

use std::collections::VecDeque;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use chassis::s3::{self, Gather};
use contracts::{Message as _, catalog::v1::AnnotateImport, queues::CATALOG_REPORTS};
use jobs::{Job, JobKind, JobRun, Lease, Outcome, State, Work};
use messaging::JobError;
use sea_orm::{DatabaseConnection, DbErr, sqlx::PgConnection};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::process_import::file_error;
use crate::{
    Resources,
    config::ImportSettings,
    files::{
        Column, FileKind,
        annotate::{AnnotateError, Note, NoteKind, annotate},
    },
    storage::{imports, ledger, reports},
};

/// Notes fetched at once.
const PAGE: i64 = 5_000;

/// Annotated workbooks: each job is one of `reports`.
pub fn kind(settings: &ImportSettings) -> JobKind {
    let kind = super::kind("catalog.reports", &CATALOG_REPORTS, settings);
    JobKind { replaces: Some(AnnotateImport::TYPE), ..kind }
}

/// Makes annotated workbooks.
pub struct AnnotateImports {
    pub resources: Resources,
}

#[async_trait]
impl Work for AnnotateImports {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let orm = &self.resources.database.orm;
        let report = reports::of_job(orm, run.job.id)
            .await
            .map_err(JobError::retry)?
            .ok_or_else(|| JobError::fail(anyhow!("the job has no report")))?;
        let import = imports::get(orm, report.import_id)
            .await
            .map_err(JobError::retry)?
            .ok_or_else(|| JobError::fail(anyhow!("the report has no import")))?;
        let kind = FileKind::of(&import.source.filename).map_err(JobError::fail)?;
        let source = self.resources.spool(&import.source.object_key).await?;
        let target = self.resources.temporary().map_err(JobError::Retry)?;

        let (sender, notes) = mpsc::channel(1);
        tokio::spawn(feed(orm.clone(), import.id, sender));
        let (limits, sheet) = (self.resources.settings.limits.clone(), import.options.sheet);
        let making = tokio::task::spawn_blocking(move || {
            annotate(&source, kind, sheet.as_deref(), &limits, Notes::new(notes), &target)
                .map(|made| (made, target))
        });
        let (made, target) = making.await.map_err(JobError::retry)?.map_err(|error| match error {
            AnnotateError::Source(error) => file_error(error),
            error => JobError::retry(error),
        })?;
        run.proceed()?;

        let object_key = object_key(import.id, &run.lease);
        let file = tokio::fs::File::open(&target).await.map_err(JobError::retry)?;
        let (client, bucket) = (&self.resources.s3, &self.resources.bucket);
        let bytes = ReaderStream::new(file);
        let stored = s3::upload_stream(client, bucket, &object_key, bytes, u64::MAX, Gather::InMemory)
            .await
            .map_err(JobError::retry)?;
        tracing::info!(import = %import.id, rows = made.rows, bytes = stored.bytes, "annotated workbook made");
        Ok(Outcome::Done(json!({ "object_key": object_key, "bytes": stored.bytes, "rows": made.rows })))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        if job.state == State::Completed {
            let result = job.result.as_ref().context("a completed report has a result")?;
            let object_key = result["object_key"].as_str().context("its object")?;
            let bytes = result["bytes"].as_u64().context("its size")?;
            reports::record_object(conn, job.id, object_key, bytes).await?;
        }
        Ok(())
    }
}

/// Where a claim of the job stores its workbook: a place of its own, so that a worker that lost the job without
/// knowing overwrites nothing. What it leaves there is named by no row, and goes with the retention's orphans.
fn object_key(import: Uuid, lease: &Lease) -> String {
    format!("reports/{import}/{}/{}-{}.xlsx", lease.job, lease.epoch, lease.token.simple())
}

/// A page of notes, or why there is none.
type Page = Result<Vec<ledger::Note>, DbErr>;

/// Sends the import's notes page by page, until they end or nobody reads any more.
async fn feed(orm: DatabaseConnection, import: Uuid, sender: mpsc::Sender<Page>) {
    let mut after = 0;
    loop {
        let page = ledger::notes(&orm, import, after, PAGE).await;
        let last = page.as_ref().ok().and_then(|page| page.last()).map(|note| note.row_number);
        if sender.send(page).await.is_err() {
            return;
        }
        match last {
            Some(last) => after = last,
            None => return,
        }
    }
}

/// The notes as a thread takes them, by row.
struct Notes {
    receiver: mpsc::Receiver<Page>,
    page: VecDeque<ledger::Note>,
}

impl Notes {
    fn new(receiver: mpsc::Receiver<Page>) -> Self {
        Self { receiver, page: VecDeque::new() }
    }
}

impl Iterator for Notes {
    type Item = anyhow::Result<Note>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() {
            match self.receiver.blocking_recv()? {
                Ok(page) => self.page = page.into(),
                Err(error) => return Some(Err(error.into())),
            }
        }
        self.page.pop_front().map(|note| {
            Ok(Note {
                row: note.row_number.unsigned_abs(),
                kind: if note.is_error { NoteKind::Error } else { NoteKind::Warning },
                column: note.column.as_deref().and_then(Column::from_header),
                message: note.message,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_holders_of_one_job_never_store_in_one_place() {
        let job = Uuid::now_v7();
        let lease = |epoch| Lease {
            job,
            epoch,
            token: Uuid::new_v4(),
            owner: "host:1".to_owned(),
            length: std::time::Duration::ZERO,
        };
        let import = Uuid::now_v7();
        let mut keys: Vec<String> = [1, 2, 2].map(|epoch| object_key(import, &lease(epoch))).into();
        assert!(keys.iter().all(|key| key.starts_with("reports/")), "{keys:?}");
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 3, "{keys:?}");
    }
}
