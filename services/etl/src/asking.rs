//! Asking for a run: by a client, or by a schedule.

use jobs::{Creation, Job, NewJob};
use sea_orm::sqlx::{self, PgConnection};

use crate::{config::EtlSettings, domain::run::RunParams, jobs::run_sync, storage::runs};

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
    let kind = run_sync::kind(settings);
    let new = NewJob { params: serde_json::to_value(params)?, ..kind.job(user) };
    let (Creation::Created(job) | Creation::Existing(job)) = kind.create(conn, new, correlation_id).await?;
    Ok(Asked::New(job))
}
