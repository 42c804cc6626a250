//! Shows the platform's events to the people who watch: each goes into the live stream once.

use async_trait::async_trait;
use chassis::redis::Redis;
use contracts::{
    Message,
    catalog::v1::{ImportCompleted, ImportFailed, ImportUndone},
    etl::v1::{DashboardRefreshed, SyncCompleted, SyncFailed},
    live::{FIELD, KEEP, LiveEvent, STREAM},
    queues::GATEWAY_EVENTS,
    report::v1::{ReportFailed, ReportReady},
    sms::v1::{
        Campaign, CampaignCompleted, CampaignCreated, CampaignPaused, CampaignResumed, CampaignStarted,
        ContactOptedOut,
    },
};
use deadpool_redis::redis::cmd;
use messaging::{Broker, Consumer, Context, Handler, JobError, Policy};
use serde::Serialize;
use uuid::Uuid;

use super::payloads::{
    CampaignNews, CampaignState, CompletedImport, CompletedSync, FailedImport, FailedReport, FailedSync,
    OptedOutContact, ReadyReport, RefreshedDashboard, UndoneImport,
};

/// How long an event's id and its subject's version are remembered, in seconds: longer than any
/// redelivery takes.
const REMEMBERED: u64 = 24 * 60 * 60;

/// In one step, so that a crash can't leave an event remembered and not shown, nor the other way round.
/// KEYS: stream, id, subject. ARGV: seconds to remember, entries to keep, field, event, version.
/// An event is dropped if it was shown, or if a newer one of its subject was (events are unordered).
const SHOW: &str = r"
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local seen = tonumber(redis.call('GET', KEYS[3]) or '-1')
redis.call('SET', KEYS[2], '1', 'EX', ARGV[1])
if seen > tonumber(ARGV[5]) then return 0 end
redis.call('SET', KEYS[3], ARGV[5], 'EX', ARGV[1])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', ARGV[3], ARGV[4])
return 1
";

/// Consumes the gateway's queue of events.
pub fn consumer(broker: &Broker, redis: &Redis) -> Consumer {
    let show = ShowEvent { redis: redis.clone() };
    Consumer::new(broker, &GATEWAY_EVENTS)
        .policy(Policy::default())
        .handle::<ImportCompleted>(show.clone())
        .handle::<ImportFailed>(show.clone())
        .handle::<ImportUndone>(show.clone())
        .handle::<ReportReady>(show.clone())
        .handle::<ReportFailed>(show.clone())
        .handle::<SyncCompleted>(show.clone())
        .handle::<SyncFailed>(show.clone())
        .handle::<DashboardRefreshed>(show.clone())
        .handle::<CampaignCreated>(show.clone())
        .handle::<CampaignStarted>(show.clone())
        .handle::<CampaignPaused>(show.clone())
        .handle::<CampaignResumed>(show.clone())
        .handle::<CampaignCompleted>(show.clone())
        .handle::<ContactOptedOut>(show)
}

/// The handler of all events.
#[derive(Clone)]
pub struct ShowEvent {
    /// Where the live stream is.
    pub redis: Redis,
}

impl ShowEvent {
    /// Returns whether the event was shown now.
    async fn show(&self, id: Uuid, subject: &str, version: u64, event: &LiveEvent) -> Result<bool, JobError> {
        let json = serde_json::to_string(event).map_err(JobError::fail)?;
        let mut script = cmd("EVAL");
        script
            .arg(SHOW)
            .arg(3)
            .arg(self.redis.key(STREAM))
            .arg(self.redis.key(&format!("{STREAM}:shown:{id}")))
            .arg(self.redis.key(&format!("{STREAM}:version:{subject}")))
            .arg(REMEMBERED)
            .arg(KEEP)
            .arg(FIELD)
            .arg(json)
            .arg(version);
        self.redis.query::<bool>(&script).await.map_err(JobError::retry)
    }

    /// Shows what a campaign is now.
    async fn show_campaign<M: Message>(
        &self,
        context: &Context,
        campaign: Option<Campaign>,
        state: CampaignState,
        reason: Option<String>,
    ) -> Result<(), JobError> {
        let campaign =
            campaign.ok_or_else(|| JobError::fail(anyhow::anyhow!("{} names no campaign", M::TYPE)))?;
        let (subject, version) = (campaign.id.clone(), campaign.version);
        let event = of_nobody::<M>("sms-dispatch", CampaignNews::new(campaign, state, reason))?;
        self.show(context.id, &subject, version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<ImportCompleted> for ShowEvent {
    async fn handle(&self, message: ImportCompleted, context: &Context) -> Result<(), JobError> {
        let (subject, version) = (message.task_id.clone(), message.version);
        let event =
            of_supplier::<ImportCompleted>(message.proveedor_id.clone(), CompletedImport::from(message))?;
        self.show(context.id, &subject, version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<ImportFailed> for ShowEvent {
    async fn handle(&self, message: ImportFailed, context: &Context) -> Result<(), JobError> {
        let (subject, version) = (message.task_id.clone(), message.version);
        let event = of_supplier::<ImportFailed>(message.proveedor_id.clone(), FailedImport::from(message))?;
        self.show(context.id, &subject, version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<ImportUndone> for ShowEvent {
    async fn handle(&self, message: ImportUndone, context: &Context) -> Result<(), JobError> {
        let (subject, version) = (message.task_id.clone(), message.version);
        let event = of_supplier::<ImportUndone>(message.proveedor_id.clone(), UndoneImport::from(message))?;
        self.show(context.id, &subject, version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<ReportReady> for ShowEvent {
    async fn handle(&self, message: ReportReady, context: &Context) -> Result<(), JobError> {
        let (subject, version) = (message.run_id.clone(), message.version);
        let event = of_nobody::<ReportReady>("report", ReadyReport::from(message))?;
        self.show(context.id, &subject, version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<ReportFailed> for ShowEvent {
    async fn handle(&self, message: ReportFailed, context: &Context) -> Result<(), JobError> {
        let (subject, version) = (message.run_id.clone(), message.version);
        let event = of_nobody::<ReportFailed>("report", FailedReport::from(message))?;
        self.show(context.id, &subject, version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<SyncCompleted> for ShowEvent {
    async fn handle(&self, message: SyncCompleted, context: &Context) -> Result<(), JobError> {
        let (subject, version) = (message.run_id.clone(), message.version);
        let event = of_nobody::<SyncCompleted>("etl", CompletedSync::from(message))?;
        self.show(context.id, &subject, version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<SyncFailed> for ShowEvent {
    async fn handle(&self, message: SyncFailed, context: &Context) -> Result<(), JobError> {
        let (subject, version) = (message.run_id.clone(), message.version);
        let event = of_nobody::<SyncFailed>("etl", FailedSync::from(message))?;
        self.show(context.id, &subject, version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<DashboardRefreshed> for ShowEvent {
    async fn handle(&self, message: DashboardRefreshed, context: &Context) -> Result<(), JobError> {
        let version = message.version;
        let event = of_nobody::<DashboardRefreshed>("etl", RefreshedDashboard::from(message))?;
        // One subject: what dashboards read.
        self.show(context.id, "dashboards", version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<CampaignCreated> for ShowEvent {
    async fn handle(&self, message: CampaignCreated, context: &Context) -> Result<(), JobError> {
        self.show_campaign::<CampaignCreated>(context, message.campaign, CampaignState::Draft, None).await
    }
}

#[async_trait]
impl Handler<CampaignStarted> for ShowEvent {
    async fn handle(&self, message: CampaignStarted, context: &Context) -> Result<(), JobError> {
        self.show_campaign::<CampaignStarted>(context, message.campaign, CampaignState::Running, None).await
    }
}

#[async_trait]
impl Handler<CampaignPaused> for ShowEvent {
    async fn handle(&self, message: CampaignPaused, context: &Context) -> Result<(), JobError> {
        let CampaignPaused { campaign, reason } = message;
        self.show_campaign::<CampaignPaused>(context, campaign, CampaignState::Paused, Some(reason)).await
    }
}

#[async_trait]
impl Handler<CampaignResumed> for ShowEvent {
    async fn handle(&self, message: CampaignResumed, context: &Context) -> Result<(), JobError> {
        self.show_campaign::<CampaignResumed>(context, message.campaign, CampaignState::Running, None).await
    }
}

#[async_trait]
impl Handler<CampaignCompleted> for ShowEvent {
    async fn handle(&self, message: CampaignCompleted, context: &Context) -> Result<(), JobError> {
        let told = message.campaign.as_ref().map(|campaign| campaign.state.as_str()).unwrap_or_default();
        let state = CampaignState::ended(told);
        self.show_campaign::<CampaignCompleted>(context, message.campaign, state, None).await
    }
}

#[async_trait]
impl Handler<ContactOptedOut> for ShowEvent {
    async fn handle(&self, message: ContactOptedOut, context: &Context) -> Result<(), JobError> {
        let event = of_nobody::<ContactOptedOut>("sms-dispatch", OptedOutContact::from(message))?;
        // Each is news of its own: its subject would be the phone.
        self.show(context.id, &context.id.to_string(), 0, &event).await.map(drop)
    }
}

/// An event of the catalog, which its supplier sees too.
fn of_supplier<M: Message>(proveedor_id: String, payload: impl Serialize) -> Result<LiveEvent, JobError> {
    let proveedor_id = Some(proveedor_id).filter(|id| !id.is_empty());
    let data = serde_json::to_value(payload).map_err(JobError::fail)?;
    Ok(LiveEvent { kind: M::TYPE.to_owned(), service: "catalog-upload".to_owned(), proveedor_id, data })
}

/// An event that belongs to no supplier: whoever is bound to one does not see it.
fn of_nobody<M: Message>(service: &str, payload: impl Serialize) -> Result<LiveEvent, JobError> {
    let data = serde_json::to_value(payload).map_err(JobError::fail)?;
    Ok(LiveEvent { kind: M::TYPE.to_owned(), service: service.to_owned(), proveedor_id: None, data })
}
