//! Imports and their rollbacks behind the queue.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use contracts::sms::v1::{ImportContacts as Import, RollBackImport as RollBack};
use jobs::{Job, Runner, Sweeper, Work};
use messaging::{Context, Handler, JobError};
use sea_orm::sqlx::{self, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    import_contacts::{self, ImportContacts},
    roll_back_import::{self, RollBackImports},
};
use crate::{SERVICE, config::ImportSettings};

/// How often cancelled jobs of command lines are looked for.
const LOOK: Duration = Duration::from_secs(5);

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

impl ImportQueue {
    /// Ends the imports and rollbacks of command lines that died, where somebody asked for their end: no worker can go on
    /// with them, for their files are elsewhere. Until `shutdown` is cancelled.
    pub async fn end_orphans(self, pool: PgPool, shutdown: CancellationToken) {
        loop {
            if let Err(error) = self.end_some(&pool, &shutdown).await {
                tracing::debug!(%error, "could not look for cancelled jobs of command lines, will try again");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn end_some(&self, pool: &PgPool, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let orphans: Vec<(Uuid, String)> = sqlx::query_as(
            "select id, kind from jobs where kind = any($1) and state in ('pending', 'running')
                 and cancel_requested_at is not null and (lease_until is null or lease_until < clock_timestamp())",
        )
        .bind([import_contacts::LOCAL_KIND, roll_back_import::LOCAL_KIND].as_slice())
        .fetch_all(pool)
        .await?;
        for (id, kind) in orphans {
            let work: &dyn Work =
                if kind == import_contacts::LOCAL_KIND { &*self.imports } else { &*self.rollbacks };
            // Its end was asked for: claimed, it is ended, and no work begins.
            let ended = self.runner.run(id, shutdown, work).await;
            ended.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(())
    }
}

/// Nudges imports that are due and that nobody works on.
pub fn imports_sweeper(pool: PgPool, settings: &ImportSettings) -> Sweeper<Import, fn(&Job) -> Import> {
    fn nudge(job: &Job) -> Import {
        Import { import_id: job.id.to_string() }
    }
    Sweeper::new(pool, SERVICE, import_contacts::KIND, nudge as fn(&Job) -> Import)
        .again_after(settings.lease)
}

/// The same for rollbacks.
pub fn rollbacks_sweeper(pool: PgPool, settings: &ImportSettings) -> Sweeper<RollBack, fn(&Job) -> RollBack> {
    fn nudge(job: &Job) -> RollBack {
        RollBack { job_id: job.id.to_string() }
    }
    Sweeper::new(pool, SERVICE, roll_back_import::KIND, nudge as fn(&Job) -> RollBack)
        .again_after(settings.lease)
}

/// The id of a job that a message names.
pub(super) fn job_id(text: &str) -> Result<Uuid, JobError> {
    Uuid::parse_str(text).with_context(|| format!("{text:?} is no id of a job")).map_err(JobError::Fail)
}
