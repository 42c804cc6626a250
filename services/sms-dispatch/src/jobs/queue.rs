//! Imports and their rollbacks behind the queue.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use contracts::sms::v1::{ImportContacts as Import, RollBackImport as RollBack};
use jobs::{Job, Runner, Sweeper};
use messaging::{Context, Handler, JobError};
use sea_orm::sqlx::PgPool;
use uuid::Uuid;

use super::{
    import_contacts::{self, ImportContacts},
    roll_back_import::{self, RollBackImports},
};
use crate::{SERVICE, config::ImportSettings};

/// A worker's side of the queue.
#[derive(Clone)]
pub struct ImportQueue {
    pub runner: Runner,
    pub imports: Arc<ImportContacts>,
    pub rollbacks: Arc<RollBackImports>,
}

#[async_trait]
impl Handler<Import> for ImportQueue {
    async fn handle(&self, message: Import, context: &Context) -> Result<(), JobError> {
        self.runner.run(job_id(&message.import_id)?, &context.shutdown, &*self.imports).await
    }
}

#[async_trait]
impl Handler<RollBack> for ImportQueue {
    async fn handle(&self, message: RollBack, context: &Context) -> Result<(), JobError> {
        self.runner.run(job_id(&message.job_id)?, &context.shutdown, &*self.rollbacks).await
    }
}

/// Nudges imports that are due and that nobody works on.
pub fn imports_sweeper(pool: PgPool, settings: &ImportSettings) -> Sweeper<Import, fn(&Job) -> Import> {
    fn nudge(job: &Job) -> Import {
        Import { import_id: job.id.to_string() }
    }
    Sweeper::new(pool, SERVICE, import_contacts::KIND, nudge as fn(&Job) -> Import).again_after(settings.lease)
}

/// The same for rollbacks.
pub fn rollbacks_sweeper(pool: PgPool, settings: &ImportSettings) -> Sweeper<RollBack, fn(&Job) -> RollBack> {
    fn nudge(job: &Job) -> RollBack {
        RollBack { job_id: job.id.to_string() }
    }
    Sweeper::new(pool, SERVICE, roll_back_import::KIND, nudge as fn(&Job) -> RollBack).again_after(settings.lease)
}

fn job_id(text: &str) -> Result<Uuid, JobError> {
    Uuid::parse_str(text).with_context(|| format!("{text:?} is no id of a job")).map_err(JobError::Fail)
}
