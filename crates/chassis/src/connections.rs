//! What every service with queues and files is connected to, and what each of its processes does whatever its role.

use actix_web::web::Data;
use contracts::Queue;
use messaging::Broker;
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Admin},
    auth::Verifier,
    background::Background,
    config::ServiceSettings,
    db::{self, Database},
    http::{Health, Routes, Server},
    redis::Redis,
    s3,
};

/// The connections of one process of a service.
pub struct Connections {
    /// Its schema.
    pub database: Database,
    /// What is live.
    pub redis: Redis,
    /// The queues.
    pub broker: Broker,
    /// Files.
    pub s3: aws_sdk_s3::Client,
    service: &'static str,
    queues: &'static [&'static Queue],
    settings: ServiceSettings,
    /// Whether health asks for the bucket.
    files: bool,
}

/// What a service serves.
#[derive(Clone, Copy)]
pub struct Api {
    /// Its operations.
    pub routes: fn() -> Routes,
    /// What they are about, in a sentence for their users.
    pub description: &'static str,
}

impl Connections {
    /// Connects a process of `service`, which processes `queues`. Waits for the database; everything else may come later.
    ///
    /// # Errors
    /// Configuration that does not hold, or shutdown while waiting.
    pub async fn connect(
        service: &'static str,
        queues: &'static [&'static Queue],
        settings: &ServiceSettings,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            database: db::connect(&settings.database, service, shutdown).await?,
            redis: Redis::new(&settings.redis)?,
            broker: Broker::new(settings.broker.clone())?,
            s3: s3::client(&settings.s3).await,
            service,
            queues,
            settings: settings.clone(),
            files: true,
        })
    }

    /// For a service that keeps no files: its health does not ask for a bucket.
    #[must_use]
    pub fn without_files(mut self) -> Self {
        self.files = false;
        self
    }

    /// Takes the port of an API: the operations of a service's table, which work with `resources`, those of its
    /// administration, the document of both, and the check of tokens. What stands in no table is not served.
    ///
    /// # Errors
    /// A port that is taken.
    pub async fn api<T: Clone + Send + 'static>(
        &self,
        shutdown: &CancellationToken,
        resources: T,
        Api { routes, description }: Api,
    ) -> anyhow::Result<Server> {
        let auth = &self.settings.auth;
        let verifier =
            Verifier::start(auth, crate::http_client(), Some(&self.database), shutdown.clone()).await;
        let health = self.health().keys(&verifier);
        let verifier = Data::new(verifier);
        let admin = Admin::new(&self.database, &self.broker, self.queues);
        let name = self.service;
        let table = move || routes().and(admin::routes(name));
        let document = table().document(name, name, description);
        Server::bind(&self.settings.http, health, move |config| {
            config.app_data(verifier.clone()).app_data(Data::new(resources.clone()));
            admin.configure(config);
            table().configure(config);
            document.configure(config);
        })
    }

    /// Takes the port of a worker, for its health and metrics.
    ///
    /// # Errors
    /// A port that is taken.
    pub fn worker(&self) -> anyhow::Result<Server> {
        Server::bind(&self.settings.http, self.health(), |_| {})
    }

    fn health(&self) -> Health {
        let health =
            Health::new(self.service).database(&self.database).redis(&self.redis).broker(&self.broker);
        if self.files { health.s3(&self.s3, &self.settings.s3.bucket) } else { health }
    }

    /// What either role does, so that nothing waits for the other to be up: where workers are scaled to zero by the
    /// depth of their queue, the API must be able to fill it.
    pub fn background(&self, shutdown: &CancellationToken) -> Background {
        let pool = || self.database.pool.clone();
        let relay = outbox::Relay::new(pool(), self.broker.clone());
        let archiver = outbox::dead_letters::Archiver::new(pool(), self.broker.clone(), self.queues);
        let topology = messaging::TopologyKeeper::new(self.broker.clone(), contracts::QUEUES);
        let depths = messaging::DepthSampler::new(self.broker.clone(), self.queues);
        Background::new(shutdown.clone())
            .spawn("topology", topology.run(shutdown.clone()))
            .spawn("depths", depths.run(shutdown.clone()))
            .spawn("relay", relay.run(shutdown.clone()))
            .spawn("archiver", archiver.run(shutdown.clone()))
            .spawn("pruner", outbox::Pruner::new(pool()).run(shutdown.clone()))
    }
}
