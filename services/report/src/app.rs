//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use ::jobs::{Jobs, workers::Announcer};
use chassis::{
    background::Background,
    clock::Clock,
    config::{DatabaseSettings, S3Settings},
    parts::Parts,
    s3,
};
use contracts::{
    Queue,
    queues::{REPORT_CAMPAIGNS, REPORT_EVENTS, REPORT_RUNS},
    sms::v1::{CampaignCompleted, CampaignStarted},
};
use messaging::{Consumer, Policy};
use schedules::Scheduler;
use tokio_util::sync::CancellationToken;

use crate::{
    Resources, SERVICE,
    config::Config,
    events::{campaign_told::CampaignTold, messages_settled::MessagesSettledHandler},
    http,
    jobs::{
        export_campaign::{self, ExportCampaigns},
        start_run::{self, StartRuns},
    },
    live::Live,
    retention::Retention,
    scheduler::BeginRuns,
    storage,
};

/// The queues this service consumes.
const QUEUES: &[&Queue] = &[&REPORT_EVENTS, &REPORT_RUNS, &REPORT_CAMPAIGNS];

/// Every kind of job, each with what its jobs do.
fn jobs(resources: &Resources) -> Jobs {
    let (settings, resources) = (&resources.settings, || resources.clone());
    Jobs::new(resources().database.pool)
        .register(start_run::kind(settings), StartRuns { resources: resources() })
        .register(export_campaign::kind(settings), ExportCampaigns { resources: resources() })
}

/// Takes requests for reports and answers what became of them.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let resources = resources(&parts, &config).await;
    let tasks = background(&parts, &resources, &jobs(&resources), &shutdown);
    tasks.serve(parts.api(&shutdown, resources, http::API).await?).await
}

/// Keeps what events tell, and runs jobs.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = parts.worker()?;
    let resources = resources(&parts, &config).await;
    let jobs = jobs(&resources);
    let (pool, version) = (parts.database.pool.clone(), env!("CARGO_PKG_VERSION"));
    let announcer = Announcer::new(pool, SERVICE, version, QUEUES, jobs.activities());
    let told = CampaignTold { resources: resources.clone() };
    let concurrency = resources.settings.ingest_concurrency;
    let events = Consumer::new(&parts.broker, &REPORT_EVENTS)
        .policy(Policy { concurrency, ..Policy::default() })
        .handle(MessagesSettledHandler::new(resources.clone()))
        .handle::<CampaignStarted>(told.clone())
        .handle::<CampaignCompleted>(told);
    background(&parts, &resources, &jobs, &shutdown)
        .run_jobs(&jobs, &parts.broker)
        .spawn("consumer of events", events.run(shutdown.clone()))
        .spawn("announcer", announcer.run(shutdown.clone()))
        .serve(server)
        .await
}

/// Looks for what must not be, in the database. Gives a line for each finding.
///
/// # Errors
/// The database can't be asked.
pub async fn doctor(
    settings: &DatabaseSettings,
    shutdown: &CancellationToken,
) -> anyhow::Result<Vec<String>> {
    chassis::doctor::look(SERVICE, settings, shutdown, storage::doctor::doctor).await
}

async fn resources(parts: &Parts, config: &Config) -> Resources {
    let signer = match &config.s3_public_endpoint {
        None => parts.s3.clone(),
        Some(endpoint) => {
            let settings = S3Settings { endpoint: Some(endpoint.clone()), ..config.common.s3.clone() };
            s3::client(&settings).await
        }
    };
    Resources {
        database: parts.database.clone(),
        live: Live::new(&parts.redis),
        s3: parts.s3.clone(),
        signer,
        bucket: config.common.s3.bucket.clone(),
        settings: Arc::new(config.reports.clone()),
    }
}

/// What either role does.
fn background(parts: &Parts, resources: &Resources, jobs: &Jobs, shutdown: &CancellationToken) -> Background {
    let pool = parts.database.pool.clone();
    let scheduler = Scheduler::new(pool, Clock::System, BeginRuns { resources: resources.clone() });
    let retention = Retention::new(resources.clone());
    parts
        .background(shutdown)
        .sweep_jobs(jobs, &parts.broker)
        .spawn("scheduler", scheduler.run(shutdown.clone()))
        .spawn("retention", retention.run(shutdown.clone()))
}
