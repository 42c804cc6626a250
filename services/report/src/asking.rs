//! Asking for a report: by a client, or by a schedule.

use chassis::db::Orm;
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
pub enum Asked {
    /// A new run.
    New(Run),
    /// One that is under way, or whose files show the day as it is.
    Same(Run),
    /// The day has no campaign.
    NoCampaigns,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub fecha: NaiveDate,
    pub params: Params,
    /// A new run whatever there is.
    pub force: bool,
    /// Who asks.
    pub user: String,
    /// The request's id.
    pub correlation_id: Option<String>,
}

/// Begins a run, unless there is one that answers the wish, in the caller's transaction.
///
/// # Errors
/// The database.
pub async fn ask(conn: &mut PgConnection, resources: &Resources, wish: Wish) -> anyhow::Result<Asked> {
    let Wish { fecha, params, force, user, correlation_id } = wish;
    runs::take_turn(conn, fecha, &params).await?;
    if !force {
        if let Some(run) = runs::active(conn, fecha, &params).await? {
            return Ok(Asked::Same(run));
        }
        if let Some(run) = runs::current(conn, fecha, &params).await? {
            return Ok(Asked::Same(run));
        }
    }
    let kind = start_run::kind(&resources.settings);
    let job = kind.job(&user);
    let id = job.id;
    // The campaigns first: without one there is nothing to begin.
    if crate::storage::campaigns::of_day(&Orm::on(conn), fecha).await?.is_empty() {
        return Ok(Asked::NoCampaigns);
    }
    kind.create(&mut *conn, job, correlation_id).await?;
    let Some(run) = runs::create(conn, id, fecha, &params, &user).await? else {
        anyhow::bail!("the campaigns of {fecha} were deleted at this moment");
    };
    Ok(Asked::New(run))
}
