//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::{sync::Arc, time::Duration};

use ::jobs::{Jobs, workers::Announcer};
use chassis::{background::Background, connections::Connections};
use contracts::{
    Queue,
    queues::{SMS_AUDIENCES, SMS_BULK, SMS_IMPORTS, SMS_PRIORITY, SMS_VALIDATIONS},
};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Resources, SERVICE,
    accounts::Accounts,
    buckets::Buckets,
    config::Config,
    contact_files::ContactFiles,
    feeder::Feeder,
    help::Help,
    http,
    in_flight::InFlight,
    jobs::{
        import_contacts::{self, ImportContacts},
        load_audience::{self, LoadAudiences},
        prepare_campaign::{self, PrepareCampaigns},
        roll_back_import::{self, RollBackImports},
        send_slice::{self, SendSlices},
        validate_contacts::{self, ValidateContacts},
    },
    live::Live,
    metrics,
    orphans::Orphans,
    providers::{self, Providers, messaging::UNDER_WAY},
    reconciler::{Patience, Reconciler},
    report_writer::{self, ReportWriter},
    reports::{Lane, Reports},
    storage,
    upkeep::Upkeep,
};

/// The queues this service consumes.
const QUEUES: &[&Queue] = &[&SMS_IMPORTS, &SMS_VALIDATIONS, &SMS_AUDIENCES, &SMS_BULK, &SMS_PRIORITY];

/// Every kind of job, each with what its jobs do.
fn jobs(
    resources: &Resources,
    connections: &Connections,
    providers: &Providers,
    under_way: &TaskTracker,
) -> Jobs {
    let Resources { database, settings, lookups, sms, .. } = resources;
    let pool = || database.pool.clone();
    let rollbacks = RollBackImports { pool: pool(), settings: Arc::clone(settings) };
    let buckets = Arc::new(Buckets::new(connections.redis.clone(), pool()));
    let slices = || SendSlices {
        pool: pool(),
        buckets: Arc::clone(&buckets),
        providers: Arc::clone(providers),
        settings: Arc::clone(sms),
        // Each kind has places of its own.
        in_flight: InFlight::default(),
        under_way: under_way.clone(),
    };
    Jobs::new(pool())
        .register(import_contacts::kind(settings), ImportContacts::from_s3(resources))
        .register(roll_back_import::kind(settings), rollbacks)
        .register(validate_contacts::kind(lookups), ValidateContacts::new(pool(), Arc::clone(lookups)))
        .register(load_audience::kind(settings), LoadAudiences::from_s3(resources))
        .register(prepare_campaign::kind(), PrepareCampaigns::new(pool()))
        .register(send_slice::kind(sms), slices())
        .register(send_slice::single_kind(sms), slices())
}

/// Answers requests.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let connections = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let (resources, writer) = resources(&connections, &config);
    let jobs = jobs(&resources, &connections, &Providers::default(), &TaskTracker::new());
    let tasks = background(&connections, &resources, &jobs, config.refresh, &shutdown)
        .spawn("writer of reports", report_writer::watch(writer, shutdown.clone()));
    tasks.serve(connections.api(&shutdown, resources, http::API).await?).await
}

/// Does what nobody waits for.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let connections = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = connections.worker()?;
    // Workers take no webhooks.
    let (resources, _) = resources(&connections, &config);
    let providers = providers::messaging(&resources.sms);
    for name in providers.keys() {
        let rate = resources.sms.per_second(*name);
        storage::providers::configure(&connections.database.pool, *name, rate).await?;
    }
    let under_way = TaskTracker::new();
    let jobs = jobs(&resources, &connections, &providers, &under_way);
    let (pool, version) = (connections.database.pool.clone(), env!("CARGO_PKG_VERSION"));
    let reconciler = Reconciler::new(
        pool.clone(),
        Arc::clone(&providers),
        Arc::clone(&resources.sms),
        Patience::of(&resources.sms),
    );
    let accounts = Accounts::new(pool.clone(), Arc::clone(&providers));
    let help = Help {
        pool: pool.clone(),
        providers: Arc::clone(&providers),
        buckets: Arc::new(Buckets::new(connections.redis.clone(), pool.clone())),
        settings: Arc::clone(&resources.sms),
    };
    let announcer = Announcer::new(pool, SERVICE, version, QUEUES, jobs.activities());
    background(&connections, &resources, &jobs, config.refresh, &shutdown)
        .run_jobs(&jobs, &connections.broker)
        .spawn("announcer", announcer.run(shutdown.clone()))
        .spawn("reconciler", reconciler.run(shutdown.clone()))
        .spawn("accounts", accounts.run(shutdown.clone()))
        .spawn("help", help.run(shutdown.clone()))
        .spawn("requests under way", end_of(under_way, shutdown.clone()))
        .serve(server)
        .await
}

/// Waits for requests whose answers are not written yet, once the process is to end.
async fn end_of(requests: TaskTracker, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    requests.close();
    if tokio::time::timeout(UNDER_WAY, requests.wait()).await.is_err() {
        tracing::warn!(requests = requests.len(), "answers of providers are not written");
    }
}

/// What either role does: while no worker runs, campaigns begin at their hour, and what people and providers write is
/// taken in.
fn background(
    connections: &Connections,
    resources: &Resources,
    jobs: &Jobs,
    refresh: Duration,
    shutdown: &CancellationToken,
) -> Background {
    let pool = || connections.database.pool.clone();
    let orphans = Orphans::new(pool(), &resources.settings);
    let upkeep = Upkeep::new(pool(), refresh, resources.sms.keep);
    let files = ContactFiles::new(resources.clone());
    let reports = Reports::new(pool());
    let feeder = Feeder::new(pool(), Arc::clone(&resources.sms));
    let live = Live::new(pool(), &connections.redis, Arc::clone(&resources.sms));
    connections
        .background(shutdown)
        .sweep_jobs(jobs, &connections.broker)
        .spawn("end of orphans", orphans.run(shutdown.clone()))
        .spawn("upkeep", upkeep.run(shutdown.clone()))
        .spawn("clean-up of contacts' files", files.run(shutdown.clone()))
        .spawn("feeder", feeder.run(shutdown.clone()))
        .spawn("progress of campaigns", live.run(shutdown.clone()))
        .spawn("reports of providers", reports.clone().run(Lane::Statuses, shutdown.clone()))
        .spawn("messages to us", reports.run(Lane::Inbound, shutdown.clone()))
}

/// With the task that writes providers' reports.
fn resources(connections: &Connections, config: &Config) -> (Resources, JoinHandle<()>) {
    metrics::init();
    let (reports, writer) = ReportWriter::start(connections.database.pool.clone());
    let resources = Resources {
        database: connections.database.clone(),
        s3: connections.s3.clone(),
        bucket: config.common.s3.bucket.clone(),
        settings: Arc::new(config.imports.clone()),
        lookups: Arc::new(config.lookups.clone()),
        sms: Arc::new(config.sms.clone()),
        reports,
        phone_searches: config.phone_searches,
    };
    (resources, writer)
}
