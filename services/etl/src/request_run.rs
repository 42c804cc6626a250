//! Requests for runs: of a client, or of a schedule; and for a run to go on.

use chassis::lock;
use jobs::{Creation, Job, NewJob};
use sea_orm::sqlx::{self, PgConnection};
use uuid::Uuid;

use crate::{
    config::EtlSettings,
    domain::run::{Mode, RunParams},
    jobs::run_sync,
    storage::runs,
};

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

/// What came of asking for a run to go on.
#[derive(Clone, Debug)]
pub enum Resumed {
    /// It goes on.
    GoesOn(Box<Job>),
    /// There is no such run.
    Unknown,
    /// It is no backfill, or has neither failed nor been cancelled.
    Never,
    /// Another backfill of its stream is under way.
    Busy,
}

/// Lets a backfill that was cancelled, or has failed, go on with the day where it was, in the caller's transaction: who
/// cancels one has paused it. Other runs go by the watermark, so that their next one goes on by itself.
///
/// # Errors
/// The database.
pub async fn resume_run(
    conn: &mut PgConnection,
    settings: &EtlSettings,
    id: Uuid,
    correlation_id: Option<String>,
) -> anyhow::Result<Resumed> {
    let job = jobs::get(conn, id).await?.filter(|job| job.kind == run_sync::KIND);
    let Some(job) = job else { return Ok(Resumed::Unknown) };
    let params: RunParams = serde_json::from_value(job.params)?;
    if params.mode != Mode::Backfill {
        return Ok(Resumed::Never);
    }
    hold_lane(conn, &params.lane).await?;
    if runs::active(conn, &params.lane).await?.is_some_and(|active| active.id != id) {
        return Ok(Resumed::Busy);
    }
    let Some(job) = jobs::reopen(conn, id).await? else { return Ok(Resumed::Never) };
    runs::begin_day_again(conn, id).await?;
    run_sync::kind(settings).nudge(conn, &[id], correlation_id).await?;
    Ok(Resumed::GoesOn(Box::new(job)))
}
