//! Sends some messages of a slice. What is written before a request says that it may be under way; what is written after it
//! says what became of it; and whoever comes in between repeats nothing.

mod batch;
mod claim;
mod record;

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::anyhow;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::queues::{SMS_BULK, SMS_PRIORITY};
use jobs::{Job, JobKind, JobRun, Outcome, Work};
use messaging::JobError;
use sea_orm::sqlx::{PgConnection, PgPool};
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use self::batch::Batch;
use crate::{
    SERVICE,
    buckets::Buckets,
    config::SmsSettings,
    domain::{
        message_state::{MessageState, Observed},
        sender::ProviderName,
    },
    providers::messaging::{Messaging, SEND_TIMEOUT},
    settle::{self, Fact, Open},
    storage::{
        campaigns::{self, Campaign},
        ledger,
        slices::{self, Grant, Wait},
    },
};

/// The name of the kind.
pub const KIND: &str = "sms.slices";
/// The name of the kind of single messages: slices of one.
pub const SINGLE: &str = "sms.singles";

/// How long after it was claimed a request may be under way: its start, at most a second later, and its timeout.
pub const UNDER_WAY: Duration = SEND_TIMEOUT.saturating_add(Duration::from_secs(10));
/// How often a taken-over slice is looked at while requests of its last holder may be under way.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Rows that are taken over in one transaction.
const TAKEN_OVER: i64 = 500;
/// After work on a slice failed it waits for so long.
const AFTER_FAILURE: TimeDelta = TimeDelta::seconds(60);

/// Slices, several at a time in each worker.
pub fn kind(settings: &SmsSettings) -> JobKind {
    JobKind {
        concurrency: settings.slices_at_once,
        deadline: Duration::from_secs(30 * 60),
        lease: settings.lease,
        max_attempts: 5,
        ..JobKind::new(SERVICE, KIND, &SMS_BULK)
    }
}

/// Single messages, with places of their own in each worker.
pub fn single_kind(settings: &SmsSettings) -> JobKind {
    JobKind {
        concurrency: settings.singles_at_once,
        deadline: Duration::from_secs(5 * 60),
        ..JobKind { queue: &SMS_PRIORITY, name: SINGLE, ..kind(settings) }
    }
}

/// Sends slices.
pub struct SendSlices {
    pub pool: PgPool,
    pub buckets: Arc<Buckets>,
    pub providers: Arc<HashMap<ProviderName, Arc<dyn Messaging>>>,
    pub settings: Arc<SmsSettings>,
    /// Requests whose answers are not written yet. A process ends after them.
    pub under_way: TaskTracker,
}

/// How a job left its slice: when the rest is due, and what it waits for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Left {
    due: DateTime<Utc>,
    wait: Option<Waits>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Waits {
    Hours,
    Provider,
    Budget,
}

impl Left {
    fn now() -> Self {
        Self { due: Utc::now(), wait: None }
    }

    fn wait(self) -> Option<Wait> {
        self.wait.map(|wait| match wait {
            Waits::Hours => Wait::Hours,
            Waits::Provider => Wait::Provider,
            Waits::Budget => Wait::Budget,
        })
    }
}

/// A slice that this process sends.
struct Sending<'a> {
    run: &'a JobRun,
    grant: Grant,
    campaign: Campaign,
    open: Open,
}

#[async_trait]
impl Work for SendSlices {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let grant: Grant = serde_json::from_value(run.job.params.clone()).map_err(JobError::fail)?;
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        let campaign = campaigns::by_number(&mut conn, grant.campaign).await.map_err(JobError::retry)?;
        drop(conn);
        let campaign = campaign.ok_or_else(|| JobError::fail(anyhow!("there is no such campaign")))?;
        let open = Open::of(&campaign).map_err(JobError::Fail)?;
        let sending = Sending { run, grant, campaign, open };
        self.take_over(&sending).await?;
        let mut rest = i64::from(grant.messages);
        let mut sent = 0;
        let left = loop {
            run.proceed()?;
            if rest <= 0 {
                break Left::now();
            }
            match self.batch(&sending, rest, sent).await? {
                Batch::Sent(messages) => {
                    rest -= messages;
                    sent += messages;
                }
                Batch::Nothing => break Left::now(),
                Batch::Waits(left) => break left,
            }
        };
        Ok(Outcome::Done(serde_json::to_value(left).map_err(JobError::fail)?))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let grant: Grant = serde_json::from_value(job.params.clone())?;
        let Some(campaign) = campaigns::by_number(conn, grant.campaign).await? else { return Ok(()) };
        let Some(date) = campaign.date else { return Ok(()) };
        let range = (grant.first, grant.last);
        // Whoever makes a message pending again waits here, or is waited for.
        slices::lock(conn, grant.campaign, grant.first).await?;
        let (pending, submitting) = ledger::open(conn, date, grant.campaign, range).await?;
        let left = job.result.clone().map(serde_json::from_value::<Left>).transpose()?;
        let due = match left {
            _ if pending + submitting == 0 => None,
            Some(left) => Some((left.due, left.wait())),
            None => Some((Utc::now() + AFTER_FAILURE, Some(Wait::Error))),
        };
        slices::give_back(conn, job.id, grant, due).await?;
        if let Some((due, Some(Wait::Budget))) = due {
            // What one slice has no money for, no other has: none is fed to find that out.
            slices::wait(conn, grant.campaign, due, Wait::Budget).await?;
        }
        Ok(())
    }
}

impl SendSlices {
    /// Requests of an earlier holder that may be under way are waited for. Of those past their deadline nobody knows whether
    /// they were made.
    async fn take_over(&self, sending: &Sending<'_>) -> Result<(), JobError> {
        loop {
            let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
            let open = &sending.open;
            let range = (sending.grant.first, sending.grant.last);
            let state = MessageState::Submitting;
            let rows =
                ledger::in_state(&mut transaction, open.date, open.number, range, state, TAKEN_OVER).await;
            let rows = rows.map_err(JobError::retry)?;
            if rows.is_empty() {
                return Ok(());
            }
            let now = settle::now(&mut transaction).await.map_err(JobError::retry)?;
            let lapsed: Vec<Fact> = rows
                .iter()
                .filter(|row| row.deadline.is_none_or(|deadline| deadline < now))
                .map(|row| Fact::plain(row.position, row.attempt, Observed::Unknown, now))
                .collect();
            if lapsed.is_empty() {
                drop(transaction);
                let pause = tokio::time::sleep(LOOK_AGAIN);
                let stopping = sending.run.stopping();
                stopping.run_until_cancelled(pause).await.ok_or(JobError::Release)?;
                continue;
            }
            let changed = settle::observe(&mut transaction, open, &lapsed).await.map_err(JobError::Retry)?;
            sending.run.confirm(&mut transaction).await?;
            transaction.commit().await.map_err(JobError::retry)?;
            changed.tally.count();
            tracing::warn!(campaign = %open.id, messages = lapsed.len(), "of requests of a worker that is gone nobody knows");
        }
    }
}
