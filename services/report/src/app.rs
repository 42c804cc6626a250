//! The roles of the service: what each connects to, and what it does beside answering requests.

use std::sync::Arc;

use ::jobs::workers::Announcer;
use actix_web::web::Data;
use anyhow::Context as _;
use chassis::{
    admin::Admin,
    auth::Verifier,
    background::Background,
    clock::Clock,
    config::{DatabaseSettings, S3Settings},
    db::{self, Database},
    http::{Health, Server},
    redis::Redis,
    s3,
};
use contracts::{
    Queue,
    queues::{REPORT_CAMPAIGNS, REPORT_EVENTS, REPORT_RUNS},
    sms::v1::{CampaignCompleted, CampaignStarted},
};
use messaging::{Broker, Consumer, Policy};
use tokio_util::sync::CancellationToken;

use crate::{
    Resources, SERVICE,
    config::Config,
    http,
    jobs::{
        campaign_told::CampaignTold,
        export_campaign::{self, ExportCampaigns},
        messages_settled::MessagesSettledHandler,
        start_run::{self, StartRuns},
    },
    live::Live,
    retention::Retention,
    scheduler::Scheduler,
    storage,
};

/// The queues this service works off.
const QUEUES: &[&Queue] = &[&REPORT_EVENTS, &REPORT_RUNS, &REPORT_CAMPAIGNS];

/// Takes wishes and answers what became of them.
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

/// Keeps what events tell, and makes files.
///
/// # Errors
/// As [`run_api`].
pub async fn run_worker(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = Parts::connect(&config, &shutdown).await?;
    let server = Server::bind(&config.http, parts.health(&config), |_| {})?;
    let resources = parts.resources(&config);
    let settings = resources.settings.clone();
    let pool = || parts.database.pool.clone();
    let runner = export_campaign::runner(pool(), &settings);
    let announcer = Announcer::new(pool(), SERVICE, env!("CARGO_PKG_VERSION"), QUEUES, runner.activities());
    let policy = |concurrency| Policy { concurrency, deadline: settings.deadline, ..Policy::default() };
    let told = CampaignTold { resources: resources.clone() };
    let events = Consumer::new(&parts.broker, &REPORT_EVENTS)
        .policy(Policy { concurrency: settings.ingest_concurrency, ..Policy::default() })
        .handle(MessagesSettledHandler::new(resources.clone()))
        .handle::<CampaignStarted>(told.clone())
        .handle::<CampaignCompleted>(told);
    let runs = Consumer::new(&parts.broker, &REPORT_RUNS)
        .policy(policy(2))
        .handle(StartRuns { runner: runner.clone(), resources: resources.clone() });
    let files = Consumer::new(&parts.broker, &REPORT_CAMPAIGNS)
        .policy(policy(settings.concurrency))
        .handle(ExportCampaigns { runner, resources });
    parts
        .background(&config, &shutdown)
        .spawn("consumer of events", events.run(shutdown.clone()))
        .spawn("consumer of runs", runs.run(shutdown.clone()))
        .spawn("consumer of files", files.run(shutdown.clone()))
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
    let database = db::connect(settings, "report doctor", shutdown).await?;
    let mut findings = outbox::doctor(&database.pool).await.context("looking into the outbox")?;
    findings.extend(::jobs::doctor(&database.pool).await.context("looking into the jobs")?);
    findings.extend(storage::doctor::doctor(&database.pool).await.context("looking into the runs")?);
    Ok(findings)
}

/// What both roles are connected to.
struct Parts {
    database: Database,
    redis: Redis,
    broker: Broker,
    s3: aws_sdk_s3::Client,
    signer: aws_sdk_s3::Client,
}

impl Parts {
    async fn connect(config: &Config, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        let s3 = s3::client(&config.s3).await;
        let signer = match &config.s3_public_endpoint {
            None => s3.clone(),
            Some(endpoint) => {
                s3::client(&S3Settings { endpoint: Some(endpoint.clone()), ..config.s3.clone() }).await
            }
        };
        Ok(Self {
            database: db::connect(&config.database, SERVICE, shutdown).await?,
            redis: Redis::new(&config.redis)?,
            broker: Broker::new(config.broker.clone())?,
            s3,
            signer,
        })
    }

    fn resources(&self, config: &Config) -> Resources {
        Resources {
            database: self.database.clone(),
            live: Live::new(&self.redis),
            s3: self.s3.clone(),
            signer: self.signer.clone(),
            bucket: config.s3.bucket.clone(),
            settings: Arc::new(config.reports.clone()),
        }
    }

    fn health(&self, config: &Config) -> Health {
        Health::new(SERVICE)
            .database(&self.database)
            .redis(&self.redis)
            .broker(&self.broker)
            .s3(&self.s3, &config.s3.bucket)
    }

    /// What either role does, so that nothing waits for the other to be up.
    fn background(&self, config: &Config, shutdown: &CancellationToken) -> Background {
        let pool = || self.database.pool.clone();
        let relay = outbox::Relay::new(pool(), self.broker.clone());
        let archiver = outbox::dead_letters::Archiver::new(pool(), self.broker.clone(), QUEUES);
        let runs = start_run::sweeper(pool(), &config.reports);
        let files = export_campaign::sweeper(pool(), &config.reports);
        let scheduler = Scheduler::new(self.resources(config), Clock::System);
        let retention = Retention::new(self.resources(config));
        Background::new(shutdown.clone())
            .spawn("relay", relay.run(shutdown.clone()))
            .spawn("archiver", archiver.run(shutdown.clone()))
            .spawn("sweeper of runs", runs.run(shutdown.clone()))
            .spawn("sweeper of files", files.run(shutdown.clone()))
            .spawn("scheduler", scheduler.run(shutdown.clone()))
            .spawn("retention", retention.run(shutdown.clone()))
            .spawn("pruner", outbox::Pruner::new(pool()).run(shutdown.clone()))
    }
}
