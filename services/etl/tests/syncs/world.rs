use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use chassis::{
    config::{DatabaseSettings, Env, RedisSettings},
    db,
    redis::Redis,
};
use etl::{
    Resources, SERVICE,
    bsale::{Bsale, STREAMS, tables, views},
    collections::cache::Dashboards,
    config::EtlSettings,
    domain::run::{Mode, RunParams},
    jobs::run_sync::{self, RunSyncs},
    request_run::{Requested, request_run},
    storage::migrations::Migrator,
};
use jobs::{Job, Runner, State};
use simulators::bsale::{self, Shop};
use stack::Namespace;
use tokio_util::sync::CancellationToken;

/// The sales database of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    MariaDb,
    Postgres,
}

/// The service's tables, a sales database, a shop, and nobody at work on them.
pub struct World {
    pub resources: Resources,
    pub bsale: bsale::Bsale,
    pub runner: Runner,
    pub runs: Arc<RunSyncs>,
    /// Goes last.
    _namespace: Namespace,
}

const TOKEN: &str = "a token of tests";

impl World {
    pub async fn new(label: &str, kind: Kind, shop: Shop) -> Result<Self> {
        Self::with(label, kind, shop, &[]).await
    }

    pub async fn with(label: &str, kind: Kind, shop: Shop, more: &[(&str, &str)]) -> Result<Self> {
        stack::install_tls();
        let namespace = Namespace::create(label).await?;
        let bsale = bsale::Bsale::start(shop, TOKEN)?;
        let sales = match kind {
            // As SQLAlchemy spells it.
            Kind::MariaDb => namespace.mysql_database().await?.replacen("mysql://", "mysql+pymysql://", 1),
            Kind::Postgres => namespace.database_for("sales").await?,
        };
        let start = (bsale.shop(|shop| shop.today) - chrono::Days::new(75)).to_string();
        let settings = [
            ("DATABASE_URL", namespace.database_url.as_str()),
            ("REDIS_URL", &namespace.servers().redis_url),
            ("REDIS_PREFIX", &namespace.redis_prefix),
            ("SALES_DATABASE_URL", &sales),
            ("BSALE_API_URL", bsale.url()),
            ("BSALE_API_TOKEN", TOKEN),
            ("BSALE_REQUESTS_PER_SECOND", "2000"),
            ("BSALE_START_DATE", &start),
            ("ETL_LEASE_SECONDS", "5"),
        ];
        let mut env = Env::from_map(settings.into_iter().chain(more.iter().copied()));
        let (database, redis) = (DatabaseSettings::read(&mut env), RedisSettings::read(&mut env));
        let settings = EtlSettings::read(&mut env);
        env.finish()?;
        let shutdown = CancellationToken::new();
        db::migrate::<Migrator>(&database, SERVICE, &shutdown).await?;
        let database = db::connect(&database, SERVICE, &shutdown).await?;
        let redis = Redis::new(&redis)?;
        let source = settings.bsale.clone().context("Bsale's settings")?;
        let ours = Bsale::new(source.clone(), &database, &redis)?;
        // Twice: steps can be repeated.
        for _ in 0..2 {
            ours.target.migrate(tables::ALL, &views::all(&source, ours.target.backend())).await?;
        }
        let dashboards = Dashboards::new(database.pool.clone(), redis.clone(), settings.collections.clone());
        let resources = Resources {
            database: database.clone(),
            redis,
            settings: Arc::new(settings),
            bsale: Some(Arc::new(ours)),
            bigquery: None,
            dashboards,
        };
        let kind = run_sync::kind(&resources.settings);
        let runner = Runner::new(database.pool.clone()).lease(kind.lease).backoff(kind.backoff);
        let runs = Arc::new(RunSyncs { resources: resources.clone() });
        Ok(Self { resources, bsale, runner, runs, _namespace: namespace })
    }

    pub fn ours(&self) -> &Bsale {
        self.resources.bsale.as_deref().expect("this world has a Bsale")
    }

    /// Asks for a run.
    pub async fn ask(&self, params: &RunParams) -> Result<Requested> {
        let mut transaction = self.resources.database.pool.begin().await?;
        let asked = request_run(&mut transaction, &self.resources.settings, params, "ana", None).await?;
        transaction.commit().await?;
        Ok(asked)
    }

    /// One attempt at a run. Gives the job as it is afterwards.
    pub async fn attempt(&self, job: uuid::Uuid) -> Result<Job> {
        let shutdown = CancellationToken::new();
        let ran = self.runner.run(job, &shutdown, &*self.runs).await;
        ran.map_err(|error| anyhow::anyhow!("the run of {job}: {error:?}"))?;
        self.job(job).await
    }

    pub async fn job(&self, id: uuid::Uuid) -> Result<Job> {
        let mut conn = self.resources.database.pool.acquire().await?;
        jobs::get(&mut conn, id).await?.context("the job")
    }

    /// Runs a stream once, whatever comes of it.
    pub async fn run(&self, params: &RunParams) -> Result<Job> {
        let id = self.ask(params).await?.job().id;
        self.attempt(id).await
    }

    /// Runs a stream to its end, which must be good.
    pub async fn sync(&self, stream: &str, mode: Mode) -> Result<Job> {
        let job = self.run(&RunParams::new(stream, mode)).await?;
        ensure!(job.state == State::Completed, "{stream}: {:?}: {:?}", job.state, job.error);
        Ok(job)
    }

    /// Runs all streams.
    pub async fn sync_all(&self, mode: Mode) -> Result<()> {
        for stream in STREAMS {
            self.sync(stream.name, mode).await?;
        }
        Ok(())
    }
}
