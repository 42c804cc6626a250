//! `RefetchResource`: fetches one resource again that a webhook named.

use anyhow::Context as _;
use async_trait::async_trait;
use contracts::etl::v1::RefetchResource;
use jobs::{Job, JobRun, Outcome, Runner, Sweeper, Work};
use messaging::{Context, Handler, JobError};
use sea_orm::sqlx::{PgConnection, PgPool};
use serde_json::json;

use super::job_id;
use crate::{Resources, SERVICE, bsale::webhook, config::EtlSettings};

/// The kind of the job's row.
pub const KIND: &str = "etl.webhooks";

/// Fetches resources.
#[derive(Clone)]
pub struct RefetchResources {
    pub runner: Runner,
    pub resources: Resources,
}

/// Nudges those that are due and that nobody works on.
pub fn sweeper(
    pool: PgPool,
    settings: &EtlSettings,
) -> Sweeper<RefetchResource, fn(&Job) -> RefetchResource> {
    fn nudge(job: &Job) -> RefetchResource {
        RefetchResource { job_id: job.id.to_string() }
    }
    Sweeper::new(pool, SERVICE, KIND, nudge as fn(&Job) -> RefetchResource).again_after(settings.lease)
}

#[async_trait]
impl Handler<RefetchResource> for RefetchResources {
    async fn handle(&self, message: RefetchResource, context: &Context) -> Result<(), JobError> {
        self.runner.run(job_id(&message.job_id)?, &context.shutdown, self).await
    }
}

#[async_trait]
impl Work for RefetchResources {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let bsale = self.resources.bsale.as_ref().context("this installation has no Bsale");
        let bsale = bsale.map_err(JobError::Fail)?;
        let path = run.job.params["resource"].as_str().unwrap_or_default();
        let resource = webhook::Resource::parse(path)
            .with_context(|| format!("{path:?} is not a resource of Bsale"))
            .map_err(JobError::Fail)?;
        let merged = webhook::refetch(bsale, &resource, &run.job.id.to_string()).await?;
        Ok(Outcome::Done(json!({ "recurso": path, "filas": merged })))
    }

    async fn ended(&self, _: &mut PgConnection, _: &Job) -> anyhow::Result<()> {
        Ok(())
    }
}
