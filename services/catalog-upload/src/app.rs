//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::{path::Path, sync::Arc, time::SystemTime};

use ::jobs::{Jobs, workers::Announcer};
use chassis::{background::Background, connections::Connections};
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
    metrics,
    retention::Retention,
    spool,
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
    let connections = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let resources = resources(&connections, &config);
    let tasks = background(&connections, &resources, &jobs(&resources), &shutdown);
    tasks.serve(connections.api(&shutdown, resources, http::API).await?).await
}

/// Runs jobs.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let connections = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = connections.worker()?;
    let resources = resources(&connections, &config);
    sweep_spool(&config.imports.spool);
    let jobs = jobs(&resources);
    let (pool, version) = (connections.database.pool.clone(), env!("CARGO_PKG_VERSION"));
    let announcer = Announcer::new(pool, SERVICE, version, QUEUES, jobs.activities());
    background(&connections, &resources, &jobs, &shutdown)
        .run_jobs(&jobs, &connections.broker)
        .spawn("announcer", announcer.run(shutdown.clone()))
        .serve(server)
        .await
}

/// Before there is any work: a folder of few files.
fn sweep_spool(folder: &Path) {
    match spool::sweep(folder, SystemTime::now()) {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "files of processes that were killed were deleted"),
        Err(error) => tracing::warn!(folder = %folder.display(), %error, "the spool could not be swept"),
    }
}

fn resources(connections: &Connections, config: &Config) -> Resources {
    metrics::init();
    Resources {
        database: connections.database.clone(),
        statuses: Statuses::new(&connections.redis),
        s3: connections.s3.clone(),
        bucket: config.common.s3.bucket.clone(),
        settings: Arc::new(config.imports.clone()),
    }
}

/// What either role does.
fn background(
    connections: &Connections,
    resources: &Resources,
    jobs: &Jobs,
    shutdown: &CancellationToken,
) -> Background {
    let indexer = Indexer::new(connections.database.pool.clone());
    let retention = Retention::new(resources.clone());
    connections
        .background(shutdown)
        .sweep_jobs(jobs, &connections.broker)
        .spawn("indexer", indexer.run(shutdown.clone()))
        .spawn("retention", retention.run(shutdown.clone()))
}
