//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use ::jobs::{Runner, workers::Announcer};
use chassis::{background::Background, config::DatabaseSettings, parts::Parts};
use contracts::{
    Queue,
    queues::{SMS_IMPORTS, SMS_VALIDATIONS},
};
use messaging::{Consumer, Policy};
use tokio_util::sync::CancellationToken;

use crate::{
    Resources, SERVICE,
    config::Config,
    http,
    jobs::{
        import_contacts::ImportContacts,
        queue::{ImportQueue, imports_sweeper, rollbacks_sweeper},
        roll_back_import::RollBackImports,
        spool::Spool,
        validate_contacts::{self, ValidateContacts, ValidationQueue},
    },
    storage,
    upkeep::Upkeep,
};

/// The queues this service works off.
const QUEUES: &[&Queue] = &[&SMS_IMPORTS, &SMS_VALIDATIONS];

/// Answers requests.
///
/// # Errors
/// Configuration that does not hold, a port that is taken, a background task that ended.
pub async fn run_api(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let resources = Resources {
        database: parts.database.clone(),
        s3: parts.s3.clone(),
        bucket: config.common.s3.bucket.clone(),
        settings: Arc::new(config.imports.clone()),
        lookups: Arc::new(config.lookups.clone()),
    };
    let server = parts.api(&shutdown, resources, http::API).await?;
    background(&parts, &config, &shutdown).serve(server).await
}

/// Does what nobody waits for.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(SERVICE, QUEUES, &config.common, &shutdown).await?;
    let server = parts.worker()?;
    let pool = || parts.database.pool.clone();
    let settings = Arc::new(config.imports.clone());
    let runner = Runner::new(pool()).lease(settings.lease);
    let version = env!("CARGO_PKG_VERSION");
    let announcer = Announcer::new(pool(), SERVICE, version, QUEUES, runner.activities());
    let spool = Spool {
        client: parts.s3.clone(),
        bucket: config.common.s3.bucket.clone(),
        dir: settings.spool.clone(),
    };
    let lookups = Arc::new(config.lookups.clone());
    let validations = ValidationQueue {
        runner: runner.clone().lease(lookups.lease),
        validations: Arc::new(ValidateContacts::new(pool(), Arc::clone(&lookups))),
    };
    let queue = ImportQueue {
        runner,
        imports: Arc::new(ImportContacts {
            pool: pool(),
            settings: Arc::clone(&settings),
            show: Box::new(|_, _| {}),
            files: Box::new(spool),
        }),
        rollbacks: Arc::new(RollBackImports { pool: pool(), settings: Arc::clone(&settings) }),
    };
    // They take turns anyway: one writes many contacts at a time.
    let policy = Policy { concurrency: 1, deadline: settings.deadline, ..Policy::default() };
    let orphans = queue.clone().end_orphans(pool(), shutdown.clone());
    let imports = Consumer::new(&parts.broker, &SMS_IMPORTS)
        .policy(policy)
        .handle::<contracts::sms::v1::ImportContacts>(queue.clone())
        .handle::<contracts::sms::v1::RollBackImport>(queue);
    // One at a time: they share an account, and its limit.
    let policy = Policy { concurrency: 1, deadline: lookups.deadline, ..Policy::default() };
    let validations = Consumer::new(&parts.broker, &SMS_VALIDATIONS)
        .policy(policy)
        .handle::<contracts::sms::v1::ValidateContacts>(validations);
    let upkeep = Upkeep::new(pool(), config.refresh);
    background(&parts, &config, &shutdown)
        .spawn("consumer of imports", imports.run(shutdown.clone()))
        .spawn("consumer of validations", validations.run(shutdown.clone()))
        .spawn("end of orphans", orphans)
        .spawn("announcer", announcer.run(shutdown.clone()))
        .spawn("upkeep", upkeep.run(shutdown.clone()))
        .serve(server)
        .await
}

/// What either role does.
fn background(parts: &Parts, config: &Config, shutdown: &CancellationToken) -> Background {
    let pool = || parts.database.pool.clone();
    parts
        .background(shutdown)
        .spawn("sweeper of imports", imports_sweeper(pool(), &config.imports).run(shutdown.clone()))
        .spawn("sweeper of rollbacks", rollbacks_sweeper(pool(), &config.imports).run(shutdown.clone()))
        .spawn(
            "sweeper of validations",
            validate_contacts::sweeper(pool(), &config.lookups).run(shutdown.clone()),
        )
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
