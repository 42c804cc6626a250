//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use ::jobs::{Jobs, workers::Announcer};
use chassis::{background::Background, clock::Clock, config::S3Settings, connections::Connections, s3};
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
    events::{campaign_updated::CampaignUpdated, messages_settled::MessagesSettledHandler},
    http,
    jobs::{
        export_campaign::{self, ExportCampaigns},
        start_run::{self, StartRuns},
    },
    live::Live,
    metrics,
    retention::Retention,
    scheduler::BeginRuns,
};

/// The queues this service consumes.
const QUEUES: &[&Queue] = &[&REPORT_EVENTS, &REPORT_RUNS, &REPORT_CAMPAIGNS];

/// Every kind of job, each with what its jobs do.
fn jobs(connections: &Connections, resources: &Resources) -> Jobs {
    let (settings, resources) = (&resources.settings, || resources.clone());
    Jobs::new(resources().database.pool)
        .register(
            start_run::kind(settings),
            StartRuns { resources: resources(), broker: connections.broker.clone() },
        )
        .register(export_campaign::kind(settings), ExportCampaigns { resources: resources() })
}

/// Takes requests for reports and answers what became of them.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let connections = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let resources = resources(&connections, &config).await;
    let tasks = background(&connections, &resources, &jobs(&connections, &resources), &shutdown);
    tasks.serve(connections.api(&shutdown, resources, http::API).await?).await
}

/// Keeps what events tell, and runs jobs.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let connections = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = connections.worker()?;
    let resources = resources(&connections, &config).await;
    let jobs = jobs(&connections, &resources);
    let (pool, version) = (connections.database.pool.clone(), env!("CARGO_PKG_VERSION"));
    let announcer = Announcer::new(pool, SERVICE, version, QUEUES, jobs.activities());
    let told = CampaignUpdated { resources: resources.clone() };
    let concurrency = resources.settings.ingest_concurrency;
    let events = Consumer::new(&connections.broker, &REPORT_EVENTS)
        .policy(Policy { concurrency, ..Policy::default() })
        .handle(MessagesSettledHandler::new(resources.clone()))
        .handle::<CampaignStarted>(told.clone())
        .handle::<CampaignCompleted>(told);
    background(&connections, &resources, &jobs, &shutdown)
        .run_jobs(&jobs, &connections.broker)
        .spawn("consumer of events", events.run(shutdown.clone()))
        .spawn("announcer", announcer.run(shutdown.clone()))
        .serve(server)
        .await
}

async fn resources(connections: &Connections, config: &Config) -> Resources {
    metrics::init();
    let signer = match &config.s3_public_endpoint {
        None => connections.s3.clone(),
        Some(endpoint) => {
            let settings = S3Settings { endpoint: Some(endpoint.clone()), ..config.common.s3.clone() };
            s3::client(&settings).await
        }
    };
    Resources {
        database: connections.database.clone(),
        live: Live::new(&connections.redis),
        s3: connections.s3.clone(),
        signer,
        bucket: config.common.s3.bucket.clone(),
        settings: Arc::new(config.reports.clone()),
    }
}

/// What either role does.
fn background(
    connections: &Connections,
    resources: &Resources,
    jobs: &Jobs,
    shutdown: &CancellationToken,
) -> Background {
    let pool = connections.database.pool.clone();
    let scheduler = Scheduler::new(pool, Clock::System, BeginRuns { resources: resources.clone() });
    let retention = Retention::new(resources.clone());
    connections
        .background(shutdown)
        .sweep_jobs(jobs, &connections.broker)
        .spawn("scheduler", scheduler.run(shutdown.clone()))
        .spawn("retention", retention.run(shutdown.clone()))
}
