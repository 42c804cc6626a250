//! Requests for reports: of a client, or of a schedule.

use chassis::{db::Orm, lock};
use chrono::NaiveDate;
use sea_orm::sqlx::PgConnection;

use crate::{
    Resources,
    domain::params::Params,
    jobs::start_run,
    storage::runs::{self, Run},
};

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
        if let Some(run) = runs::current(conn, fecha, &params).await? {
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
