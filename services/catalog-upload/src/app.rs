//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use chassis::{background::Background, config::DatabaseSettings, parts::Parts};
use contracts::{
    Queue,
    queues::{CATALOG_IMPORTS, CATALOG_REPORTS},
};
use jobs::workers::Announcer;
use messaging::{Consumer, Policy};
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

/// The queues this service works off.
const QUEUES: &[&Queue] = &[&CATALOG_IMPORTS, &CATALOG_REPORTS];

/// Takes uploads and answers what became of them.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let resources = resources(&parts, &config);
    let server = parts.api(&shutdown, resources, http::API).await?;
    background(&parts, &config, &shutdown).serve(server).await
}

/// Works imports off.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = parts.worker()?;
    let resources = resources(&parts, &config);
    let settings = resources.settings.clone();
    let pool = || parts.database.pool.clone();
    let runner = process_import::runner(pool(), &settings);
    let version = env!("CARGO_PKG_VERSION");
    let announcer = Announcer::new(pool(), SERVICE, version, QUEUES, runner.activities());
    let policy =
        Policy { concurrency: settings.concurrency, deadline: settings.deadline, ..Policy::default() };
    let imports = Consumer::new(&parts.broker, &CATALOG_IMPORTS)
        .policy(policy.clone())
        .handle(ProcessImports { runner: runner.clone(), resources: resources.clone() })
        .handle(UndoImports { runner: runner.clone(), resources: resources.clone() });
    let reports = Consumer::new(&parts.broker, &CATALOG_REPORTS)
        .policy(policy)
        .handle(AnnotateImports { runner, resources });
    background(&parts, &config, &shutdown)
        .spawn("consumer of imports", imports.run(shutdown.clone()))
        .spawn("consumer of reports", reports.run(shutdown.clone()))
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
fn background(parts: &Parts, config: &Config, shutdown: &CancellationToken) -> Background {
    let pool = || parts.database.pool.clone();
    let imports = process_import::sweeper(pool(), &config.imports);
    let undos = undo_import::sweeper(pool(), &config.imports);
    let reports = annotate_import::sweeper(pool(), &config.imports);
    let retention = Retention::new(resources(parts, config));
    parts
        .background(shutdown)
        .spawn("sweeper of imports", imports.run(shutdown.clone()))
        .spawn("sweeper of undos", undos.run(shutdown.clone()))
        .spawn("sweeper of reports", reports.run(shutdown.clone()))
        .spawn("indexer", Indexer::new(pool()).run(shutdown.clone()))
        .spawn("retention", retention.run(shutdown.clone()))
}
