//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use ::jobs::{Jobs, workers::Announcer};
use chassis::{background::Background, config::DatabaseSettings, parts::Parts};
use contracts::{
    Queue,
    queues::{CATALOG_IMPORTS, CATALOG_REPORTS},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Resources, SERVICE,
    config::Config,
    http,
    indexer::Indexer,
    jobs::{
        annotate_import::{self, AnnotateImports},
        process_import::{self, ProcessImports},
        undo_import::{self, UndoImports},
    },
    live::Statuses,
    retention::Retention,
    storage,
};

/// The queues this service consumes.
const QUEUES: &[&Queue] = &[&CATALOG_IMPORTS, &CATALOG_REPORTS];

/// Every kind of job, each with what its jobs do.
fn jobs(resources: &Resources) -> Jobs {
    let (settings, resources) = (&resources.settings, || resources.clone());
    Jobs::new(resources().database.pool)
        .register(process_import::kind(settings), ProcessImports { resources: resources() })
        .register(undo_import::kind(settings), UndoImports { resources: resources() })
        .register(annotate_import::kind(settings), AnnotateImports { resources: resources() })
}

/// Takes uploads and answers what became of them.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let resources = resources(&parts, &config);
    let tasks = background(&parts, &resources, &jobs(&resources), &shutdown);
    tasks.serve(parts.api(&shutdown, resources, http::API).await?).await
}

/// Runs jobs.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = parts.worker()?;
    let resources = resources(&parts, &config);
    let jobs = jobs(&resources);
    let (pool, version) = (parts.database.pool.clone(), env!("CARGO_PKG_VERSION"));
    let announcer = Announcer::new(pool, SERVICE, version, QUEUES, jobs.activities());
    background(&parts, &resources, &jobs, &shutdown)
        .run_jobs(&jobs, &parts.broker)
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

fn resources(parts: &Parts, config: &Config) -> Resources {
    Resources {
        database: parts.database.clone(),
        statuses: Statuses::new(&parts.redis),
        s3: parts.s3.clone(),
        bucket: config.common.s3.bucket.clone(),
        settings: Arc::new(config.imports.clone()),
    }
}

/// What either role does.
fn background(parts: &Parts, resources: &Resources, jobs: &Jobs, shutdown: &CancellationToken) -> Background {
    let indexer = Indexer::new(parts.database.pool.clone());
    let retention = Retention::new(resources.clone());
    parts
        .background(shutdown)
        .sweep_jobs(jobs, &parts.broker)
        .spawn("indexer", indexer.run(shutdown.clone()))
        .spawn("retention", retention.run(shutdown.clone()))
}
