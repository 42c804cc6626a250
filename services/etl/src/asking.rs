//! Asking for a run: by a client, or by a schedule.

use contracts::etl::v1::RunSync;
use jobs::{Creation, Job, NewJob};
use outbox::Meta;
use sea_orm::sqlx::{self, PgConnection};
use uuid::Uuid;

use crate::{SERVICE, config::EtlSettings, domain::run::RunParams, jobs::run_sync::KIND, storage::runs};

/// What came of it.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A new run.
    New(Job),
    /// The one that the lane has: it has one at a time.
    Same(Job),
}

impl Asked {
    /// The run.
    pub fn job(&self) -> &Job {
        match self {
            Self::New(job) | Self::Same(job) => job,
        }
    }
}

/// Begins a run, unless its lane has one, in the caller's transaction.
///
/// # Errors
/// The database.
pub async fn ask(
    conn: &mut PgConnection,
    settings: &EtlSettings,
    params: &RunParams,
    user: &str,
    correlation_id: Option<String>,
) -> anyhow::Result<Asked> {
    // One at a time asks for a lane, until the caller's transaction ends.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended(current_schema() || ' lane ' || $1, 0))")
        .bind(&params.lane)
        .execute(&mut *conn)
        .await?;
    if let Some(job) = runs::active(conn, &params.lane).await? {
        return Ok(Asked::Same(job));
    }
    let new = NewJob {
        id: Uuid::now_v7(),
        kind: KIND,
        params: serde_json::to_value(params)?,
        user: Some(user.to_owned()),
        idempotency_key: None,
        request_hash: None,
        max_attempts: settings.max_attempts,
    };
    let (Creation::Created(job) | Creation::Existing(job)) = jobs::create(conn, new).await?;
    let meta = Meta::about(job.id).correlated(correlation_id);
    outbox::publish(conn, SERVICE, &RunSync { job_id: job.id.to_string() }, meta).await?;
    Ok(Asked::New(job))
}
