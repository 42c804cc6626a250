//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use actix_web::web::Data;
use anyhow::Context as _;
use chassis::{
    admin::Admin,
    auth::Verifier,
    background::Background,
    config::DatabaseSettings,
    db::{self, Database},
    http::{Health, Server},
    redis::Redis,
    s3,
};
use contracts::{
    Queue,
    queues::{CATALOG_IMPORTS, CATALOG_REPORTS},
};
use jobs::workers::Announcer;
use messaging::{Broker, Consumer, Policy};
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
    let parts = Parts::connect(&config, &shutdown).await?;
    let verifier =
        Verifier::start(&config.auth, chassis::http_client(), Some(&parts.database), shutdown.clone()).await;
    let resources = parts.resources(&config);
    let health = parts.health(&config).keys(&verifier);
    let verifier = Data::new(verifier);
    let admin = Admin::new(SERVICE, &parts.database, &parts.broker, QUEUES);
    let server = Server::bind(&config.http, health, move |service| {
        service.app_data(verifier.clone());
        http::configure(service, &resources, &admin);
    })?;
    parts.background(&config, &shutdown).serve(server).await
}

/// Works imports off.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(&config, &shutdown).await?;
    let server = Server::bind(&config.http, parts.health(&config), |_| {})?;
    let resources = parts.resources(&config);
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
    parts
        .background(&config, &shutdown)
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
    let database = db::connect(settings, "catalog-upload doctor", shutdown).await?;
    let mut findings = outbox::doctor(&database.pool).await.context("looking into the outbox")?;
    findings.extend(jobs::doctor(&database.pool).await.context("looking into the jobs")?);
    findings.extend(storage::doctor::doctor(&database.pool).await.context("looking into the imports")?);
    Ok(findings)
}

/// What both roles are connected to.
struct Parts {
    database: Database,
    redis: Redis,
    broker: Broker,
    s3: aws_sdk_s3::Client,
}

impl Parts {
    async fn connect(config: &Config, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        Ok(Self {
            database: db::connect(&config.database, SERVICE, shutdown).await?,
            redis: Redis::new(&config.redis)?,
            broker: Broker::new(config.broker.clone())?,
            s3: s3::client(&config.s3).await,
        })
    }

    fn resources(&self, config: &Config) -> Resources {
        Resources {
            database: self.database.clone(),
            statuses: Statuses::new(&self.redis),
            s3: self.s3.clone(),
            bucket: config.s3.bucket.clone(),
            settings: Arc::new(config.imports.clone()),
        }
    }

    fn health(&self, config: &Config) -> Health {
        Health::new(SERVICE)
            .database(&self.database)
            .redis(&self.redis)
            .broker(&self.broker)
            .s3(&self.s3, &config.s3.bucket)
    }

    /// What either role does, so that nothing waits for the other to be up: where workers are scaled to
    /// zero by the depth of their queue, the API must be able to fill it.
    fn background(&self, config: &Config, shutdown: &CancellationToken) -> Background {
        let pool = || self.database.pool.clone();
        let relay = outbox::Relay::new(pool(), self.broker.clone());
        let archiver = outbox::dead_letters::Archiver::new(pool(), self.broker.clone(), QUEUES);
        let imports = process_import::sweeper(pool(), &config.imports);
        let undos = undo_import::sweeper(pool(), &config.imports);
        let reports = annotate_import::sweeper(pool(), &config.imports);
        let retention = Retention::new(self.resources(config));
        Background::new(shutdown.clone())
            .spawn("relay", relay.run(shutdown.clone()))
            .spawn("archiver", archiver.run(shutdown.clone()))
            .spawn("sweeper of imports", imports.run(shutdown.clone()))
            .spawn("sweeper of undos", undos.run(shutdown.clone()))
            .spawn("sweeper of reports", reports.run(shutdown.clone()))
            .spawn("indexer", Indexer::new(pool()).run(shutdown.clone()))
            .spawn("retention", retention.run(shutdown.clone()))
            .spawn("pruner", outbox::Pruner::new(pool()).run(shutdown.clone()))
    }
}
