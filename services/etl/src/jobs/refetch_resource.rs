//! Fetches one resource again that a webhook named.

use anyhow::Context as _;
use async_trait::async_trait;
use contracts::queues::ETL_WEBHOOKS;
use jobs::{Job, JobKind, JobRun, Outcome, Work};
use messaging::JobError;
use sea_orm::sqlx::PgConnection;
use serde_json::json;

use crate::{Resources, bsale::webhook, config::EtlSettings};

/// Resources to fetch again.
pub fn kind(settings: &EtlSettings) -> JobKind {
    JobKind { concurrency: 2, ..super::kind("etl.webhooks", &ETL_WEBHOOKS, settings) }
}

/// Fetches resources.
pub struct RefetchResources {
    pub resources: Resources,
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
