//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use ::jobs::{Jobs, workers::Announcer};
use anyhow::Context as _;
use chassis::{background::Background, clock::Clock, connections::Connections, db};
use contracts::{
    Queue,
    queues::{ETL_RUNS, ETL_WEBHOOKS},
};
use schedules::Scheduler;
use tokio_util::sync::CancellationToken;

use crate::{
    Resources, SERVICE,
    bsale::Bsale,
    collections::{bigquery::Client, cache::Dashboards, refresher::Refresher},
    config::{Config, Tools},
    http,
    jobs::{
        refetch_resource::{self, RefetchResources},
        run_sync::{self, RunSyncs},
    },
    metrics,
    retention::Retention,
    scheduler::BeginSyncs,
    storage::{self, migrations::Migrator},
    streams,
    target::Target,
    watermarks::Watermarks,
};

/// The queues this service works on.
const QUEUES: &[&Queue] = &[&ETL_RUNS, &ETL_WEBHOOKS];

/// Every kind of job, each with what its jobs do.
fn jobs(resources: &Resources) -> Jobs {
    let (settings, resources) = (&resources.settings, || resources.clone());
    Jobs::new(resources().database.pool)
        .register(run_sync::kind(settings), RunSyncs { resources: resources() })
        .register(refetch_resource::kind(settings), RefetchResources { resources: resources() })
}

/// Takes requests and answers what became of them.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let connections = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?.without_files();
    let resources = resources(&connections, &config)?;
    let tasks = background(&connections, &resources, &jobs(&resources), &shutdown).await?;
    tasks.serve(connections.api(&shutdown, resources, http::API).await?).await
}

/// Runs syncs.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let connections = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?.without_files();
    let server = connections.worker()?;
    let resources = resources(&connections, &config)?;
    let jobs = jobs(&resources);
    let (pool, version) = (connections.database.pool.clone(), env!("CARGO_PKG_VERSION"));
    let announcer = Announcer::new(pool, SERVICE, version, QUEUES, jobs.activities());
    background(&connections, &resources, &jobs, &shutdown)
        .await?
        .run_jobs(&jobs, &connections.broker)
        .spawn("announcer", announcer.run(shutdown.clone()))
        .serve(server)
        .await
}

/// Brings the schema, and the databases that are written to, to this version.
///
/// # Errors
/// A migration that fails.
pub async fn migrate(tools: &Tools, shutdown: &CancellationToken) -> anyhow::Result<()> {
    db::migrate::<Migrator>(&tools.database, SERVICE, shutdown).await?;
    if let Some(bsale) = &tools.bsale {
        let target = Target::connect(&bsale.database)?;
        target.wait(shutdown).await?;
        target.migrate(crate::bsale::tables::ALL, &crate::bsale::views::all(bsale, target.backend())).await?;
    }
    Ok(())
}

/// Looks for what must not be, in the databases. Gives a line for each finding.
///
/// # Errors
/// A database can't be asked.
pub async fn doctor(tools: &Tools, shutdown: &CancellationToken) -> anyhow::Result<Vec<String>> {
    let mut findings =
        chassis::doctor::check(SERVICE, &tools.database, shutdown, storage::doctor::doctor).await?;
    if let Some(bsale) = &tools.bsale {
        let target = Target::connect(&bsale.database)?;
        findings.extend(crate::bsale::doctor(&target).await.context("checking the sales database")?);
    }
    Ok(findings)
}

fn resources(connections: &Connections, config: &Config) -> anyhow::Result<Resources> {
    metrics::init(streams::all());
    let bsale = match &config.etl.bsale {
        Some(settings) => {
            Some(Arc::new(Bsale::new(settings.clone(), &connections.database, &connections.redis)?))
        }
        None => None,
    };
    Ok(Resources {
        database: connections.database.clone(),
        redis: connections.redis.clone(),
        settings: Arc::new(config.etl.clone()),
        bsale,
        bigquery: config.etl.bigquery.clone().map(|settings| {
            Client::new(settings).paced(connections.redis.clone(), connections.database.pool.clone())
        }),
        dashboards: Dashboards::new(
            connections.database.pool.clone(),
            connections.redis.clone(),
            config.etl.collections.clone(),
        ),
    })
}

/// What either role does.
async fn background(
    connections: &Connections,
    resources: &Resources,
    jobs: &Jobs,
    shutdown: &CancellationToken,
) -> anyhow::Result<Background> {
    storage::default_schedules::ensure(resources).await?;
    let pool = || connections.database.pool.clone();
    let retention = Retention::new(resources.clone());
    let scheduler = Scheduler::new(pool(), Clock::System, BeginSyncs { resources: resources.clone() });
    let refresher = Refresher::new(pool(), resources.dashboards.clone());
    Ok(connections
        .background(shutdown)
        .sweep_jobs(jobs, &connections.broker)
        .spawn("retention", retention.run(shutdown.clone()))
        .spawn("scheduler", scheduler.run(shutdown.clone()))
        .spawn("refresher", refresher.run(shutdown.clone()))
        .spawn("watermarks", Watermarks::new(resources.clone()).run(shutdown.clone())))
}
