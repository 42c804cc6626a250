//! A campaign starts: what it depends on is frozen, and the job that writes its ledger is created, in one transaction.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    sqlx::{self, PgConnection},
};

use crate::{
    campaigns::{self, Refused},
    domain::campaign::Action,
    jobs::prepare_campaign,
    storage::{
        campaigns::{ActiveModel, Campaign},
        ledger,
    },
};

/// Starts a campaign that the caller has locked: freezes what it depends on, and has its ledger written. `public_url` is what
/// stands before the path of its links.
///
/// # Errors
/// As [`Refused`] says.
pub async fn start_campaign(
    conn: &mut PgConnection,
    campaign: &Campaign,
    actor: &str,
    correlation: Option<String>,
    public_url: &str,
) -> Result<Campaign, Refused> {
    if campaign.state.after(Action::Start).is_none() {
        return Err(Refused::State(campaign.state));
    }
    let now: DateTime<Utc> = sqlx::query_scalar("select now()").fetch_one(&mut *conn).await?;
    let frozen = campaigns::freeze(conn, campaign, now, public_url).await?;
    let date = campaigns::day(&campaign.plan, now);
    ledger::ensure_day(conn, date).await?;
    let kind = prepare_campaign::kind();
    let job = kind.job(actor);
    let change = ActiveModel {
        frozen: Set(Some(frozen)),
        date: Set(Some(date)),
        preparation: Set(Some(job.id)),
        started_at: Set(Some(now)),
        own_date: Set(campaign.own_date),
        own_minute: Set(campaign.own_minute),
        reason: Set(None),
        ..Default::default()
    };
    let started = campaigns::act(conn, campaign, Action::Start, actor, change).await?;
    kind.create(conn, job, correlation).await.map_err(anyhow::Error::from)?;
    Ok(started)
}
