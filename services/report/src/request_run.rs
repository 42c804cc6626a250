//! Requests for reports: of a client, or of a schedule.

use std::time::Duration;

use chassis::{db::Orm, lock, s3};
use chrono::NaiveDate;
use sea_orm::sqlx::PgConnection;
use tokio::time::timeout;

use crate::{
    Resources,
    domain::params::Params,
    jobs::start_run,
    storage::{
        files,
        runs::{self, Run},
    },
};

/// How long the bucket is asked whether a run's files are there.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Clone, Debug)]
pub enum Requested {
    /// A new run.
    New(Run),
    /// One that is under way, or whose files show the day as it is.
    Same(Run),
    /// The day has no campaign.
    NoCampaigns,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct RunRequest {
    pub fecha: NaiveDate,
    pub params: Params,
    /// A new run whatever there is.
    pub force: bool,
    /// Who asks.
    pub user: String,
    /// The request's id.
    pub correlation_id: Option<String>,
}

/// Begins a run, unless there is one that answers the request, in the caller's transaction.
///
/// # Errors
/// The database.
pub async fn request_run(
    conn: &mut PgConnection,
    resources: &Resources,
    request: RunRequest,
) -> anyhow::Result<Requested> {
    let RunRequest { fecha, params, force, user, correlation_id } = request;
    // One at a time asks for this: the second finds the first's run.
    lock::hold(conn, &format!("run {fecha} {}", serde_json::to_value(&params)?)).await?;
    if !force {
        if let Some(run) = runs::active(conn, fecha, &params).await? {
            return Ok(Requested::Same(run));
        }
        if let Some(run) = runs::current(conn, fecha, &params).await?
            && !files_are_gone(conn, resources, &run).await?
        {
            return Ok(Requested::Same(run));
        }
    }
    let kind = start_run::kind(&resources.settings);
    let job = kind.job(&user);
    let id = job.id;
    // The campaigns first: without one there is nothing to begin.
    if crate::storage::campaigns::of_day(&Orm::on(conn), fecha).await?.is_empty() {
        return Ok(Requested::NoCampaigns);
    }
    kind.create(&mut *conn, job, correlation_id).await?;
    let Some(run) = runs::create(conn, id, fecha, &params, &user).await? else {
        anyhow::bail!("the campaigns of {fecha} were deleted at this moment");
    };
    Ok(Requested::New(run))
}

/// Whether a bucket has lost what a completed run made. By its first file: who wipes a bucket leaves none. Where the bucket does
/// not answer, its files are taken to be there.
async fn files_are_gone(conn: &mut PgConnection, resources: &Resources, run: &Run) -> anyhow::Result<bool> {
    let first = files::page(&Orm::on(conn), run.id, -1, 1).await?.pop();
    let Some(key) = first.and_then(|file| file.object_key) else { return Ok(false) };
    match timeout(PATIENCE, s3::exists(&resources.s3, &resources.bucket, &key)).await {
        Ok(Ok(exists)) => Ok(!exists),
        Ok(Err(error)) => {
            tracing::warn!(run = %run.id, error = format!("{error:#}"), "not known whether a run's files are there");
            Ok(false)
        }
        Err(_) => Ok(false),
    }
}
