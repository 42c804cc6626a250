//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use ::jobs::{Jobs, workers::Announcer};
use chassis::{config::DatabaseSettings, connections::Connections};
use contracts::{
    Queue,
    queues::{SMS_IMPORTS, SMS_VALIDATIONS},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Resources, SERVICE,
    config::Config,
    http,
    jobs::{
        import_contacts::{self, ImportContacts},
        roll_back_import::{self, RollBackImports},
        validate_contacts::{self, ValidateContacts},
    },
    orphans::Orphans,
    storage,
    upkeep::Upkeep,
};

/// The queues this service consumes.
const QUEUES: &[&Queue] = &[&SMS_IMPORTS, &SMS_VALIDATIONS];

/// Every kind of job, each with what its jobs do.
fn jobs(resources: &Resources) -> Jobs {
    let Resources { database, settings, lookups, .. } = resources;
    let pool = || database.pool.clone();
    let rollbacks = RollBackImports { pool: pool(), settings: Arc::clone(settings) };
    Jobs::new(pool())
        .register(import_contacts::kind(settings), ImportContacts::from_s3(resources))
        .register(roll_back_import::kind(settings), rollbacks)
        .register(validate_contacts::kind(lookups), ValidateContacts::new(pool(), Arc::clone(lookups)))
}

/// Answers requests.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let resources = resources(&parts, &config);
    let tasks = parts.background(&shutdown).sweep_jobs(&jobs(&resources), &parts.broker);
    tasks.serve(parts.api(&shutdown, resources, http::API).await?).await
}

/// Does what nobody waits for.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Connections::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = parts.worker()?;
    let resources = resources(&parts, &config);
    let jobs = jobs(&resources);
    let (pool, version) = (|| parts.database.pool.clone(), env!("CARGO_PKG_VERSION"));
    let announcer = Announcer::new(pool(), SERVICE, version, QUEUES, jobs.activities());
    let orphans = Orphans::new(pool(), &resources.settings);
    let upkeep = Upkeep::new(pool(), config.refresh);
    parts
        .background(&shutdown)
        .sweep_jobs(&jobs, &parts.broker)
        .run_jobs(&jobs, &parts.broker)
        .spawn("end of orphans", orphans.run(shutdown.clone()))
        .spawn("announcer", announcer.run(shutdown.clone()))
        .spawn("upkeep", upkeep.run(shutdown.clone()))
        .serve(server)
        .await
}

fn resources(parts: &Connections, config: &Config) -> Resources {
    Resources {
        database: parts.database.clone(),
        s3: parts.s3.clone(),
        bucket: config.common.s3.bucket.clone(),
        settings: Arc::new(config.imports.clone()),
        lookups: Arc::new(config.lookups.clone()),
    }
}

/// Looks for what must not be, in the database. Gives a line for each finding.
///
/// # Errors
/// The database can't be asked.
pub async fn doctor(
    settings: &DatabaseSettings,
    shutdown: &CancellationToken,
) -> anyhow::Result<Vec<String>> {
    chassis::doctor::check(SERVICE, settings, shutdown, storage::doctor::doctor).await
}
