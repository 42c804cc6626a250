//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use ::jobs::workers::Announcer;
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
use tokio_util::sync::CancellationToken;

use crate::{
    Resources, SERVICE,
    config::Config,
    http,
    jobs::{
        campaign_told::CampaignTold,
        export_campaign::{self, ExportCampaigns},
        messages_settled::MessagesSettledHandler,
        start_run::{self, StartRuns},
    },
    live::Live,
    retention::Retention,
    scheduler::Scheduler,
    storage,
};

/// The queues this service works off.
const QUEUES: &[&Queue] = &[&REPORT_EVENTS, &REPORT_RUNS, &REPORT_CAMPAIGNS];

/// Takes wishes and answers what became of them.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let resources = resources(&parts, &config).await;
    let tasks = background(&parts, &resources, &shutdown);
    tasks.serve(parts.api(&shutdown, resources, http::API).await?).await
}

/// Keeps what events tell, and makes files.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = parts.worker()?;
    let resources = resources(&parts, &config).await;
    let tasks = background(&parts, &resources, &shutdown);
    let settings = resources.settings.clone();
    let pool = || parts.database.pool.clone();
    let runner = export_campaign::runner(pool(), &settings);
    let announcer = Announcer::new(pool(), SERVICE, env!("CARGO_PKG_VERSION"), QUEUES, runner.activities());
    let policy = |concurrency| Policy { concurrency, deadline: settings.deadline, ..Policy::default() };
    let told = CampaignTold { resources: resources.clone() };
    let events = Consumer::new(&parts.broker, &REPORT_EVENTS)
        .policy(Policy { concurrency: settings.ingest_concurrency, ..Policy::default() })
        .handle(MessagesSettledHandler::new(resources.clone()))
        .handle::<CampaignStarted>(told.clone())
        .handle::<CampaignCompleted>(told);
    let runs = Consumer::new(&parts.broker, &REPORT_RUNS)
        .policy(policy(2))
        .handle(StartRuns { runner: runner.clone(), resources: resources.clone() });
    let files = Consumer::new(&parts.broker, &REPORT_CAMPAIGNS)
        .policy(policy(settings.concurrency))
        .handle(ExportCampaigns { runner, resources });
    tasks
        .spawn("consumer of events", events.run(shutdown.clone()))
        .spawn("consumer of runs", runs.run(shutdown.clone()))
        .spawn("consumer of files", files.run(shutdown.clone()))
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
fn background(parts: &Parts, resources: &Resources, shutdown: &CancellationToken) -> Background {
    let pool = || parts.database.pool.clone();
    let runs = start_run::sweeper(pool(), &resources.settings);
    let files = export_campaign::sweeper(pool(), &resources.settings);
    let scheduler = Scheduler::new(resources.clone(), Clock::System);
    let retention = Retention::new(resources.clone());
    parts
        .background(shutdown)
        .spawn("sweeper of runs", runs.run(shutdown.clone()))
        .spawn("sweeper of files", files.run(shutdown.clone()))
        .spawn("scheduler", scheduler.run(shutdown.clone()))
        .spawn("retention", retention.run(shutdown.clone()))
}
