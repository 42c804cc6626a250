//! Requests for runs: of a client, or of a schedule.

use chassis::lock;
use jobs::{Creation, Job, NewJob};
use sea_orm::sqlx::{self, PgConnection};

use crate::{config::EtlSettings, domain::run::RunParams, jobs::run_sync, storage::runs};

/// What came of it.
#[derive(Clone, Debug)]
pub enum Requested {
    /// A new run.
    New(Job),
    /// The one that the lane has: it has one at a time.
    Same(Job),
}

impl Requested {
    /// The run.
    pub fn job(&self) -> &Job {
        match self {
            Self::New(job) | Self::Same(job) => job,
        }
    }
}

/// Until the caller's transaction ends no run of the lane begins but in it.
///
/// # Errors
/// The database; the connection's `lock_timeout` has passed.
pub async fn hold_lane(conn: &mut PgConnection, lane: &str) -> sqlx::Result<()> {
    lock::hold(conn, &format!("lane {lane}")).await
}

/// Begins a run, unless its lane has one, in the caller's transaction.
///
/// # Errors
/// The database.
pub async fn request_run(
    conn: &mut PgConnection,
    settings: &EtlSettings,
    params: &RunParams,
    user: &str,
    correlation_id: Option<String>,
) -> anyhow::Result<Requested> {
    // One at a time asks for a lane, until the caller's transaction ends.
    hold_lane(conn, &params.lane).await?;
    if let Some(job) = runs::active(conn, &params.lane).await? {
        return Ok(Requested::Same(job));
    }
    let kind = run_sync::kind(settings);
    let new = NewJob { params: serde_json::to_value(params)?, ..kind.job(user) };
    let (Creation::Created(job) | Creation::Existing(job)) = kind.create(conn, new, correlation_id).await?;
    Ok(Requested::New(job))
}
