use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::{HttpResponse, web::ServiceConfig};
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use sea_orm::sqlx;
use serde_json::{Map, Value, json};

use super::{routes::get_only, stuck};
use crate::{auth::Verifier, db::Database, redis::Redis};

/// How long a check may take. Longer is down: who asks decides within a second or two.
const PATIENCE: Duration = Duration::from_millis(800);

/// What a failed check means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// The process can't serve without it: not ready (503).
    Required,
    /// It serves on, with less: ready, and says so.
    Helpful,
}

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What a process depends on. `/health` and `/health/live` say that it lives, unless only a new process would get connections to
/// the database; `/health/ready` asks everything at once;
/// `/health/serving` is what a balancer asks: once it was ready, a process serves until it is told to end. While a server that
/// all processes share is down, each of them answers for itself, 503 with Retry-After, and none is taken out for it.
#[derive(Clone)]
pub struct Health {
    service: &'static str,
    checks: Vec<(&'static str, Importance, Check)>,
    /// Set once the process is told to end.
    draining: Arc<AtomicBool>,
    /// Set once all that is required has answered.
    begun: Arc<AtomicBool>,
    /// Set while its pool gives nothing and the database answers others.
    stuck: Arc<AtomicBool>,
}

impl Health {
    /// A process of `service` that depends on nothing yet.
    pub fn new(service: &'static str) -> Self {
        Self {
            service,
            checks: Vec::new(),
            draining: Arc::default(),
            begun: Arc::default(),
            stuck: Arc::default(),
        }
    }

    /// Adds a check. Its error goes to the log; the answer only names what is down.
    #[must_use]
    pub fn check<F, Fut>(mut self, name: &'static str, importance: Importance, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push((name, importance, Arc::new(move || check().boxed())));
        self
    }

    /// The database, without which nothing works.
    #[must_use]
    pub fn database(self, database: &Database) -> Self {
        let pool = database.pool.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(stuck::watch(database.clone(), self.stuck.clone()));
        }
        self.check("database", Importance::Required, move || {
            let pool = pool.clone();
            async move {
                sqlx::query("SELECT 1").execute(&pool).await.map(drop).map_err(|error| error.to_string())
            }
        })
    }

    /// Redis, without which everything works, a little slower.
    #[must_use]
    pub fn redis(self, redis: &Redis) -> Self {
        let redis = redis.clone();
        self.check("redis", Importance::Helpful, move || {
            let redis = redis.clone();
            async move {
                let ping = deadpool_redis::redis::cmd("PING");
                redis.query::<()>(&ping).await.map_err(|error| error.to_string())
            }
        })
    }

    /// The bucket. Without it nothing can be uploaded; statuses and data are served on.
    #[must_use]
    pub fn s3(self, client: &aws_sdk_s3::Client, bucket: &str) -> Self {
        let (client, bucket) = (client.clone(), bucket.to_owned());
        self.check("s3", Importance::Helpful, move || {
            let request = client.head_bucket().bucket(&bucket);
            async move {
                request
                    .send()
                    .await
                    .map(drop)
                    .map_err(|error| aws_sdk_s3::error::DisplayErrorContext(&error).to_string())
            }
        })
    }

    /// The brokers. Without them a request is still accepted, as its message waits in the outbox; a worker
    /// has nothing to do, and taking it out of service would not help.
    #[must_use]
    pub fn broker(self, broker: &messaging::Broker) -> Self {
        let broker = broker.clone();
        self.check("broker", Importance::Helpful, move || {
            let broker = broker.clone();
            async move {
                let down: Vec<_> = broker
                    .ping()
                    .await
                    .into_iter()
                    .filter_map(|(transport, answer)| {
                        answer.err().map(|error| format!("{}: {error}", transport.name()))
                    })
                    .collect();
                if down.is_empty() { Ok(()) } else { Err(down.join("; ")) }
            }
        })
    }

    /// The keys to check tokens with, without which every request is refused. They are missing only until the
    /// gateway was reached for the first time.
    #[must_use]
    pub fn keys(self, verifier: &Verifier) -> Self {
        let verifier = verifier.clone();
        self.check("keys", Importance::Required, move || {
            let verifier = verifier.clone();
            async move { verifier.ready().await.map_err(|rejected| rejected.to_string()) }
        })
    }

    /// From now on the process is not ready.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it has been told to end.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Asks everything at once. `true` if all that is required answers, and the process is not about to end.
    async fn ready(&self) -> (bool, Value) {
        if self.is_draining() {
            return (false, json!({ "status": "draining", "service": self.service, "checks": {} }));
        }
        let answers = join_all(self.checks.iter().map(|(name, importance, check)| async move {
            let answer = tokio::time::timeout(PATIENCE, check())
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            (*name, *importance, answer)
        }))
        .await;
        let (mut ready, mut complete, mut checks) = (true, true, Map::new());
        for (name, importance, answer) in answers {
            if let Err(error) = &answer {
                tracing::warn!(check = name, error, "a dependency is down");
                complete = false;
                ready &= importance == Importance::Helpful;
            }
            checks.insert(name.to_owned(), json!(if answer.is_ok() { "up" } else { "down" }));
        }
        if ready {
            self.begun.store(true, Ordering::Relaxed);
        }
        let status = match (ready, complete) {
            (true, true) => "ready",
            (true, false) => "degraded",
            (false, _) => "unavailable",
        };
        (ready, json!({ "status": status, "service": self.service, "checks": checks }))
    }
}

impl Health {
    /// Whether requests are to be sent here. Until it was ready once, it is asked whether it is.
    async fn serving(&self) -> (bool, Value) {
        if !self.begun.load(Ordering::Relaxed) || self.is_draining() {
            return self.ready().await;
        }
        (true, json!({ "status": "serving", "service": self.service }))
    }
}

pub(super) fn routes(config: &mut ServiceConfig, health: &Health) {
    let (name, stuck) = (health.service, health.stuck.clone());
    let alive = move || {
        let is_stuck = stuck.load(Ordering::Relaxed);
        async move {
            match is_stuck {
                false => HttpResponse::Ok().json(json!({ "status": "healthy", "service": name })),
                true => {
                    HttpResponse::ServiceUnavailable().json(json!({ "status": "stuck", "service": name }))
                }
            }
        }
    };
    let answer = |(well, body): (bool, Value)| match well {
        true => HttpResponse::Ok().json(body),
        false => HttpResponse::ServiceUnavailable().json(body),
    };
    let (readiness, service) = (health.clone(), health.clone());
    let ready = move || {
        let health = readiness.clone();
        async move { answer(health.ready().await) }
    };
    let serving = move || {
        let health = service.clone();
        async move { answer(health.serving().await) }
    };
    config
        .service(get_only("/health", alive.clone()))
        .service(get_only("/health/live", alive))
        .service(get_only("/health/ready", ready))
        .service(get_only("/health/serving", serving));
}
