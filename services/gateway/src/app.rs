use std::sync::Arc;

use actix_web::web;
use chassis::{
    admin::Admin,
    background::Background,
    db::{self, Database},
    http::{Health, Importance, Server},
    redis::Redis,
};
use contracts::{Queue, queues::GATEWAY_EVENTS};
use jobs::{Activities, workers::Announcer};
use messaging::{Broker, TopologyKeeper};
use outbox::{Pruner, Relay, dead_letters::Archiver};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Settings},
    events::show_event,
    http::{self, Documents, Places, backends::Backends, limits::Limiter},
    identity::Identity,
    live::Feed,
};

/// The service's name, in health, tables and paths.
pub const SERVICE: &str = "gateway";

/// What it consumes.
const QUEUES: &[&Queue] = &[&GATEWAY_EVENTS];

/// What all requests share.
pub struct App {
    /// How the gateway serves.
    pub settings: Settings,
    /// Its schema.
    pub database: Database,
    /// Users, keys and tokens.
    pub identity: Identity,
    /// The services behind it.
    pub backends: Backends,
    /// How often callers may call.
    pub limiter: Arc<Limiter>,
    /// What happens, live.
    pub feed: Feed,
    /// Who watches.
    pub watchers: Places,
    /// Who sends files.
    pub uploads: Places,
    /// Who has requests passed on, until the answer's last byte.
    pub calls: Places,
    /// The services' documentation, as last seen.
    pub documents: Documents,
    /// Ends open streams.
    pub shutdown: CancellationToken,
}

/// A gateway that has its port and is ready to run.
pub struct Gateway {
    server: Server,
    database: Database,
    redis: Redis,
    broker: Broker,
    app: web::Data<App>,
}

impl Gateway {
    /// Connects to the database (waiting for it) and takes the port. Redis, RabbitMQ and the services
    /// behind it may come later.
    ///
    /// # Errors
    /// Configuration that does not hold, a port that is taken, or shutdown while waiting.
    pub async fn open(config: Config, shutdown: &CancellationToken) -> anyhow::Result<Self> {
        let database = db::connect(&config.database, SERVICE, shutdown).await?;
        let redis = Redis::new(&config.redis)?;
        let broker = Broker::new(config.broker)?;
        let identity = Identity::open(&database, config.identity).await?;
        let app = web::Data::new(App {
            backends: Backends::new(&config.settings)?,
            limiter: Arc::new(Limiter::new(config.settings.limits)),
            feed: Feed::new(&redis),
            watchers: Places::default(),
            uploads: Places::default(),
            calls: Places::default(),
            documents: Documents::default(),
            shutdown: shutdown.clone(),
            settings: config.settings,
            database: database.clone(),
            identity,
        });
        let health = health(&database, &redis, &broker, &app);
        let (shared, admin) = (app.clone(), Admin::new(&database, &broker, QUEUES));
        let server =
            Server::bind(&config.http, health, move |service| http::configure(service, &shared, &admin))?;
        Ok(Self { server, database, redis, broker, app })
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address()
    }

    /// Serves, and does its work in the background, until `shutdown`; then drains.
    ///
    /// # Errors
    /// The server, or one of the background tasks, ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let token = || shutdown.clone();
        let (pool, broker, limiter) = (self.database.pool.clone(), self.broker, self.app.limiter.clone());
        let forget = {
            let token = token();
            async move { limiter.forget_idle(token).await }
        };
        let (identity, until) = (self.app.identity.clone(), token());
        let (sessions, watched) = (self.app.identity.clone(), token());
        let version = env!("CARGO_PKG_VERSION");
        let announcer = Announcer::new(pool.clone(), SERVICE, version, QUEUES, Activities::default());
        Background::new(token())
            .spawn("upkeep of identity", async move { identity.maintain(until).await })
            .spawn("ended sessions", async move { sessions.watch_sessions(watched).await })
            .spawn("live feed", self.app.feed.clone().run(token()))
            .spawn("rate limits", forget)
            .spawn("consumer of events", show_event::consumer(&broker, &self.redis).run(token()))
            .spawn("announcer", announcer.run(token()))
            .spawn("topology", TopologyKeeper::new(broker.clone(), contracts::QUEUES).run(token()))
            // A replayed letter leaves through the outbox, like everything a transaction publishes.
            .spawn("relay", Relay::new(pool.clone(), broker.clone()).run(token()))
            .spawn("archiver", Archiver::new(pool.clone(), broker, QUEUES).run(token()))
            .spawn("pruner", Pruner::new(pool).run(token()))
            .serve(self.server)
            .await
    }
}

fn health(database: &Database, redis: &Redis, broker: &Broker, app: &web::Data<App>) -> Health {
    let broker = broker.clone();
    let mut health = Health::new(SERVICE).database(database).redis(redis).check(
        "rabbitmq",
        Importance::Helpful,
        move || {
            let broker = broker.clone();
            async move {
                let down: Vec<_> =
                    broker.ping().await.into_iter().filter_map(|(_, answer)| answer.err()).collect();
                if down.is_empty() { Ok(()) } else { Err(down.join("; ")) }
            }
        },
    );
    for target in app.backends.all() {
        let (app, backend) = (app.clone(), target.backend);
        // Others may be up: a gateway that left the balancer with one service would take all with it.
        health = health.check(backend.name(), Importance::Helpful, move || {
            let app = app.clone();
            async move {
                match app.backends.get(backend) {
                    Some(target) => app.backends.ping(target).await.map_err(|error| format!("{error:#}")),
                    None => Ok(()),
                }
            }
        });
    }
    health
}
