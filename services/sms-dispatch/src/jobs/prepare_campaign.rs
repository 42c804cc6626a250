//! Writes a campaign's ledger: its recipients, a keyset window of the contacts (or of a file's rows) at a time, each with its
//! checkpoint.

use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use chrono::NaiveDate;
use contracts::queues::SMS_AUDIENCES;
use failpoints::Point;
use jobs::{Job, JobKind, JobRun, Outcome, Position, Progress, State as JobState, Work};
use messaging::JobError;
use sea_orm::{
    ActiveValue::Set,
    sqlx::{self, PgConnection, PgPool},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    SERVICE, campaigns,
    domain::campaign::{Action, Frozen, State},
    storage::{
        audiences::{self, Audience},
        campaigns::{self as rows, ActiveModel, Campaign},
        indexes,
    },
    texts::Texts,
};

/// The name of the kind.
pub const KIND: &str = "sms.audiences";
/// Contacts a window, or rows of a file.
const WINDOW: i64 = 20_000;
/// How often it looks whether a load has ended that has the contacts' indexes away.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Audiences, two at a time in each worker.
pub fn kind() -> JobKind {
    JobKind {
        concurrency: 2,
        deadline: Duration::from_secs(6 * 60 * 60),
        lease: Duration::from_secs(30),
        ..JobKind::new(SERVICE, KIND, &SMS_AUDIENCES)
    }
}

/// Writes ledgers.
pub struct PrepareCampaigns {
    pub pool: PgPool,
}

/// Where the writing is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Place {
    /// The last contact that was judged, or the last row of a file.
    after: i64,
    matched: i64,
    recipients: i64,
}

#[async_trait]
impl Work for PrepareCampaigns {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let mut place: Place = match &run.job.checkpoint {
            Some(checkpoint) => serde_json::from_value(checkpoint.clone()).map_err(JobError::fail)?,
            None => Place::default(),
        };
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        let campaign = rows::of_preparation(&mut conn, run.job.id).await.map_err(JobError::retry)?;
        let campaign = campaign.ok_or_else(|| JobError::fail(anyhow!("the job has no campaign")))?;
        let less =
            campaign.frozen.as_ref().map(|frozen| frozen.less_campaigns.as_slice()).unwrap_or_default();
        let less_days = audiences::days_of(&mut conn, less).await.map_err(JobError::retry)?;
        drop(conn);
        // A file's rows have theirs; only the contacts of segments that it is less are looked up.
        let of_contacts = |frozen: &Frozen| frozen.file.is_none() || !frozen.less_filters.is_empty();
        if campaign.frozen.as_ref().is_none_or(of_contacts) {
            self.indexes(run).await?;
        }
        while self.window(run, &campaign, &less_days, &mut place).await? {
            run.proceed()?;
        }
        Ok(Outcome::Done(json!({ "matched": place.matched, "recipients": place.recipients })))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let Some(campaign) = rows::of_preparation(conn, job.id).await? else { return Ok(()) };
        let campaign = rows::lock(conn, campaign.id).await?.unwrap_or(campaign);
        // A cancelled campaign's ledger is settled by the feeder.
        if campaign.state != State::Preparing {
            return Ok(());
        }
        let actor = job.user.as_deref().unwrap_or("unknown");
        if job.state == JobState::Completed {
            let running =
                campaigns::act(conn, &campaign, Action::Prepared, actor, ActiveModel::default()).await?;
            return campaigns::tell_start(conn, &running).await;
        }
        let reason = job.error.clone().unwrap_or_else(|| "La preparación se canceló".to_owned());
        let change = ActiveModel { reason: Set(Some(reason)), ..Default::default() };
        campaigns::act(conn, &campaign, Action::Fail, actor, change).await?;
        Ok(())
    }
}

impl PrepareCampaigns {
    /// Waits while a load into an empty table has the indexes away: each window would read all contacts.
    async fn indexes(&self, run: &JobRun) -> Result<(), JobError> {
        loop {
            let there = indexes::count(&self.pool, indexes::ALL).await.map_err(JobError::retry)?;
            if there == indexes::ALL.len() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            run.proceed()?;
        }
    }

    /// Writes the next window; false after the last one.
    async fn window(
        &self,
        run: &JobRun,
        campaign: &Campaign,
        less_days: &[NaiveDate],
        place: &mut Place,
    ) -> Result<bool, JobError> {
        let frozen = campaign.frozen.as_ref();
        let (frozen, date) = frozen
            .zip(campaign.date)
            .ok_or_else(|| JobError::fail(anyhow!("campaign {} never started", campaign.id)))?;
        let texts = Texts::of(&campaign.plan, frozen.file.as_ref()).map_err(JobError::fail)?;
        let weights: Vec<u32> = campaign.plan.texts.iter().map(|text| text.weight).collect();
        let audience = Audience::of(campaign, date, frozen, texts.names(), &weights, less_days);
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        let settings = "set local statement_timeout = 0; set local plan_cache_mode = force_custom_plan";
        sqlx::raw_sql(settings).execute(&mut *transaction).await.map_err(JobError::retry)?;
        let base = i32::try_from(place.recipients).map_err(JobError::fail)?;
        let window = audiences::window(&mut transaction, &audience, place.after, WINDOW, base).await;
        let window = window.map_err(JobError::retry)?;
        let Some(last) = window.last else { return Ok(false) };
        *place = Place {
            after: last,
            matched: place.matched + window.matched,
            recipients: place.recipients + window.recipients,
        };
        if campaign.plan.most_recipients.is_some_and(|most| place.recipients > most) {
            return Err(JobError::fail(anyhow!(
                "La audiencia pasa de most_recipients ({})",
                campaign.plan.most_recipients.unwrap_or_default()
            )));
        }
        let added = audiences::add_to_campaign(&mut transaction, campaign.number, window).await;
        if !added.map_err(JobError::retry)? {
            return Ok(false);
        }
        let progress = Progress {
            total: None,
            processed: place.matched,
            successful: place.recipients,
            failed: place.matched - place.recipients,
        };
        let checkpoint: Value = serde_json::to_value(*place).map_err(JobError::fail)?;
        run.checkpoint(&mut transaction, &checkpoint, Position::new(0, place.matched), &progress).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        Ok(frozen.filter.sample.is_none() && window.matched == WINDOW)
    }
}
