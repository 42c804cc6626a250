//! The roles of the service: what each connects to, and what it does beside answering requests.

use ::jobs::{Activities, workers::Announcer};
use chassis::{config::DatabaseSettings, parts::Parts};
use contracts::{Queue, queues::SMS_IMPORTS};
use tokio_util::sync::CancellationToken;

use crate::{Resources, SERVICE, config::Config, http, storage, upkeep::Upkeep};

/// The queues this service works off.
const QUEUES: &[&Queue] = &[&SMS_IMPORTS];

/// Answers requests.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let resources = Resources { database: parts.database.clone() };
    let server = parts.api(&shutdown, move |service| http::configure(service, &resources)).await?;
    parts.background(&shutdown).serve(server).await
}

/// Does what nobody waits for.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = parts.worker()?;
    let pool = || parts.database.pool.clone();
    let version = env!("CARGO_PKG_VERSION");
    let announcer = Announcer::new(pool(), SERVICE, version, QUEUES, Activities::default());
    let upkeep = Upkeep::new(pool(), config.refresh);
    parts
        .background(&shutdown)
        .spawn("announcer", announcer.run(shutdown.clone()))
        .spawn("upkeep", upkeep.run(shutdown.clone()))
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
