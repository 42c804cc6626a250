//! Sends some messages of a slice. What is written before a request says that it may be under way; what is written after it
//! says what became of it; and whoever comes in between repeats nothing.

mod batch;
mod claim;
mod letter;
mod record;
mod requests;
mod senders;
mod starts;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::anyhow;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use contracts::queues::{SMS_BULK, SMS_PRIORITY};
use futures::{
    FutureExt as _,
    stream::{FuturesUnordered, StreamExt as _},
};
use jobs::{Job, JobKind, JobRun, Outcome, Work};
use messaging::JobError;
use sea_orm::sqlx::{PgConnection, PgPool};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::task::TaskTracker;

use self::batch::Batch;
use crate::{
    SERVICE,
    buckets::Buckets,
    config::SmsSettings,
    domain::sender::ProviderName,
    in_flight::InFlight,
    providers::messaging::Messaging,
    settle::{self, Open},
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

/// How long a job waits for answers before it goes on without them.
const LINGER: Duration = Duration::from_millis(500);
/// How long a campaign waits of whose senders none has a place for another request.
const BUSY: TimeDelta = TimeDelta::seconds(1);
/// The longest that a slice is kept while its bucket is empty.
const PATIENCE: Duration = Duration::from_secs(1);
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
    /// The places of this lane's requests.
    pub in_flight: InFlight,
    /// Requests whose answers are not written yet. A process ends after them.
    pub under_way: TaskTracker,
}

/// How a job left its slice: when the rest is due, and what it waits for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Left {
    due: DateTime<Utc>,
    wait: Option<Waits>,
    /// What the next message costs, where the budget has no room for it.
    #[serde(default)]
    needs_micros: Option<i64>,
    /// None of the campaign's senders has a place for another request.
    #[serde(default)]
    busy: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Waits {
    Hours,
    Provider,
    Budget,
}

impl Left {
    fn now() -> Self {
        Self::until(Utc::now(), None)
    }

    fn until(due: DateTime<Utc>, wait: Option<Waits>) -> Self {
        Self { due, wait, needs_micros: None, busy: false }
    }

    /// What the slice waits for by itself. What its campaign waits for stands with the campaign.
    fn wait(self) -> Option<Wait> {
        match self.wait? {
            Waits::Hours => Some(Wait::Hours),
            Waits::Provider => Some(Wait::Provider),
            Waits::Budget => Some(Wait::Budget).filter(|_| self.needs_micros.is_none()),
        }
    }
}

/// Requests of a job, and what of its slice waits when they are answered.
type UnderWay = FuturesUnordered<JoinHandle<Result<Option<Left>, JobError>>>;

/// A slice that this process sends.
struct Sending<'a> {
    run: &'a JobRun,
    grant: Grant,
    campaign: Campaign,
    open: Open,
    /// Whether the job has left its slice, maybe with requests under way.
    gone: Arc<AtomicBool>,
}

#[async_trait]
impl Work for SendSlices {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        // The process ends after the requests that this job is yet to make, too.
        let _under_way = self.under_way.token();
        let grant: Grant = serde_json::from_value(run.job.params.clone()).map_err(JobError::fail)?;
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        let campaign = campaigns::by_number(&mut conn, grant.campaign).await.map_err(JobError::retry)?;
        drop(conn);
        let campaign = campaign.ok_or_else(|| JobError::fail(anyhow!("there is no such campaign")))?;
        let open = Open::of(&campaign).map_err(JobError::Fail)?;
        let sending = Sending { run, grant, campaign, open, gone: Arc::default() };
        self.take_over(&sending).await?;
        // An earlier attempt at the job has claimed so many of what it may send.
        let mut sent = run.job.reached.map_or(0, |reached| reached.step);
        let mut rest = i64::from(grant.messages) - sent;
        let mut under_way = UnderWay::new();
        let mut left = loop {
            run.proceed()?;
            if rest <= 0 {
                break Left::now();
            }
            let before = under_way.len();
            match self.batch(&sending, rest, sent, &under_way).await? {
                Batch::Sent(messages) => {
                    rest -= messages;
                    sent += messages;
                    // While the requests of one batch are made the next is claimed, and no third one. Whoever answers late is not
                    // waited for: the next batch goes on with the others.
                    if rest > 0
                        && before > 0
                        && let Some(left) = answered(&mut under_way, LINGER, false).await?
                    {
                        break left;
                    }
                }
                Batch::Busy => {
                    let many = under_way.len();
                    if let Some(left) = answered(&mut under_way, LINGER, false).await? {
                        break left;
                    }
                    if under_way.len() == many {
                        break Left { busy: true, ..Left::until(Utc::now() + BUSY, Some(Waits::Provider)) };
                    }
                }
                Batch::Nothing => break Left::now(),
                Batch::Waits(left) => break left,
            }
        };
        if let Some(waits) = answered(&mut under_way, LINGER, true).await? {
            left = waits;
        }
        sending.gone.store(true, Ordering::SeqCst);
        Ok(Outcome::Done(serde_json::to_value(left).map_err(JobError::fail)?))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let grant: Grant = serde_json::from_value(job.params.clone())?;
        let Some(campaign) = campaigns::by_number(conn, grant.campaign).await? else { return Ok(()) };
        let Some(date) = campaign.date else { return Ok(()) };
        let left = job.result.clone().map(serde_json::from_value::<Left>).transpose()?;
        // The campaign before its slice, as everybody locks them.
        if let Some(Left { needs_micros: Some(needs), .. }) = left {
            campaigns::needs(conn, grant.campaign, needs).await?;
        } else if let Some(Left { busy: true, due, .. }) = left
            && !campaign.single
        {
            campaigns::hold(conn, grant.campaign, due).await?;
        }
        // Whoever makes a message pending again waits here, or is waited for.
        slices::lock(conn, grant.campaign, grant.first).await?;
        let unsettled = ledger::unsettled(conn, date, grant.campaign, (grant.first, grant.last)).await?;
        let due = match left {
            _ if unsettled.pending + unsettled.submitting == 0 => None,
            // Whoever made these requests settles the slice with them; where he is gone, somebody else after their deadline.
            _ if unsettled.pending == 0 => Some((unsettled.until.unwrap_or_else(Utc::now), None)),
            Some(left) => Some((left.due, left.wait())),
            None => Some((Utc::now() + AFTER_FAILURE, Some(Wait::Error))),
        };
        slices::give_back(conn, job.id, grant, due).await?;
        Ok(())
    }
}

/// Waits until some requests of a job are answered, or `all` of them, but no longer than that. Gives what the rest of the slice
/// waits for by their answers.
async fn answered(under_way: &mut UnderWay, patience: Duration, all: bool) -> Result<Option<Left>, JobError> {
    let until = Instant::now() + patience;
    let mut left = None;
    while let Ok(Some(done)) = tokio::time::timeout_at(until, under_way.next()).await {
        left = left.or(done.map_err(JobError::retry)??);
        if !all {
            break;
        }
    }
    while let Some(Some(done)) = under_way.next().now_or_never() {
        left = left.or(done.map_err(JobError::retry)??);
    }
    Ok(left)
}

impl SendSlices {
    /// Of requests of an earlier holder that are past their deadline nobody knows whether they were made. Those that may be under
    /// way are left to it: they are no part of what is sent here.
    async fn take_over(&self, sending: &Sending<'_>) -> Result<(), JobError> {
        loop {
            let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
            let open = &sending.open;
            let range = (sending.grant.first, sending.grant.last);
            let lapsed = settle::lapsed(&mut transaction, open, range).await.map_err(JobError::Retry)?;
            if lapsed.rows.is_empty() {
                return Ok(());
            }
            sending.run.confirm(&mut transaction).await?;
            transaction.commit().await.map_err(JobError::retry)?;
            lapsed.tally.count();
            tracing::warn!(campaign = %open.id, messages = lapsed.rows.len(), "of requests of a worker that is gone nobody knows");
        }
    }
}
