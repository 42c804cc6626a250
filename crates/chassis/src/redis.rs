//! Redis: a cache and a wire for what is live. Nothing depends on it: a process that can't reach it
//! loses milliseconds, not requests.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use deadpool_redis::{
    Manager, Pool, Runtime,
    redis::{
        AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, aio::MultiplexedConnection,
    },
};

use crate::{config::RedisSettings, metrics};

/// How long one command may take, connecting included.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long nobody asks after a failure.
const REST: Duration = Duration::from_secs(1);

/// Redis with a breaker: after a failure everyone skips it for a second, then one caller tries.
#[derive(Clone)]
pub struct Redis {
    pool: Pool,
    client: Client,
    prefix: Arc<str>,
    breaker: Arc<Breaker>,
    /// What [`Redis::query_shared`] asks over, while it answers.
    shared: Arc<Mutex<Option<MultiplexedConnection>>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It failed a moment ago; nobody asked.
    #[error("Redis failed a moment ago and rests")]
    Resting,
    /// It can't be reached, or not in time.
    #[error("Redis can't be reached: {0}")]
    Unreachable(String),
    /// It refused the command: our mistake.
    #[error("Redis refused the command")]
    Refused(#[source] RedisError),
}

impl Redis {
    /// Prepares a pool; no network yet.
    ///
    /// # Errors
    /// A URL that can't be understood.
    pub fn new(settings: &RedisSettings) -> anyhow::Result<Self> {
        // The error may quote the URL, and with it a password.
        let client = Client::open(settings.url.expose().as_str())
            .map_err(|error| anyhow::anyhow!("REDIS_URL: {}", error.category()))?;
        let manager = Manager::new_with_config(settings.url.expose().as_str(), impatient())?;
        let pool = Pool::builder(manager)
            .max_size(8)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .build()
            .context("building the pool of Redis connections")?;
        let shown = pool.clone();
        metrics::show_pool("redis", move || {
            let status = shown.status();
            metrics::Connections { open: status.size, idle: status.available, max: status.max_size }
        });
        Ok(Self {
            pool,
            client,
            prefix: settings.prefix.as_str().into(),
            breaker: Arc::default(),
            shared: Arc::default(),
        })
    }

    /// The key behind the configured prefix.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The configured prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The pool itself, for a crate that brings its own patience.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Sends one command.
    ///
    /// # Errors
    /// As [`Unanswered`] says; within [`PATIENCE`], and at once while Redis rests.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unanswered> {
        self.ask(async |connection| command.query_async(connection).await).await
    }

    /// The same over one connection that all callers share. It takes one round trip, where [`Redis::query`] takes two: the
    /// pool asks whether a connection still answers before it lends it. For commands that are sent by the thousand.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn query_shared<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unanswered> {
        let attempt = async {
            let mut connection = self.shared().await.map_err(unanswered)?;
            command.query_async(&mut connection).await.map_err(unanswered)
        };
        let answer = self.guarded(attempt).await;
        if let Err(Unanswered::Unreachable(_)) = &answer {
            // The next one connects again.
            *self.lock_shared() = None;
        }
        answer
    }

    async fn shared(&self) -> Result<MultiplexedConnection, RedisError> {
        let known = self.lock_shared().clone();
        match known {
            Some(connection) => Ok(connection),
            None => {
                let made = self.client.get_multiplexed_async_connection_with_config(&impatient()).await?;
                Ok(self.lock_shared().insert(made).clone())
            }
        }
    }

    fn lock_shared(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends several commands in one round trip.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Unanswered> {
        self.ask(async |connection| pipeline.query_async(connection).await).await
    }

    /// A connection of one's own that waits as long as it takes, for blocking reads. Connecting is
    /// bounded; the caller reconnects.
    ///
    /// # Errors
    /// Redis can't be reached within two seconds.
    pub async fn dedicated(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(None);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn ask<T>(
        &self,
        work: impl AsyncFnOnce(&mut deadpool_redis::Connection) -> Result<T, RedisError>,
    ) -> Result<T, Unanswered> {
        let attempt = async {
            let mut connection =
                self.pool.get().await.map_err(|error| Unanswered::Unreachable(error.to_string()))?;
            work(&mut connection).await.map_err(unanswered)
        };
        self.guarded(attempt).await
    }

    /// What an attempt comes to in time, and what the breaker learns of it.
    async fn guarded<T>(
        &self,
        attempt: impl Future<Output = Result<T, Unanswered>>,
    ) -> Result<T, Unanswered> {
        if !self.breaker.lets_through() {
            return Err(Unanswered::Resting);
        }
        let answer = tokio::time::timeout(PATIENCE, attempt)
            .await
            .unwrap_or_else(|_| Err(Unanswered::Unreachable(format!("no answer within {PATIENCE:?}"))));
        match &answer {
            Err(Unanswered::Unreachable(error)) => self.breaker.failed(error),
            _ => self.breaker.answered(),
        }
        answer
    }
}

fn impatient() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE))
}

fn unanswered(error: RedisError) -> Unanswered {
    match error.code() {
        // A code is what the server itself answered. LOADING, READONLY and their like are an outage.
        Some("LOADING" | "READONLY" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN") | None => {
            Unanswered::Unreachable(error.to_string())
        }
        Some(_) => Unanswered::Refused(error),
    }
}

/// Closed while Redis answers. After a failure it opens for [`REST`], then lets one caller try.
#[derive(Debug)]
struct Breaker {
    start: Instant,
    /// Until when it is open, in milliseconds after `start`; 0 when closed.
    open_until: AtomicU64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { start: Instant::now(), open_until: AtomicU64::new(0) }
    }
}

impl Breaker {
    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lets_through(&self) -> bool {
        let until = self.open_until.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        let now = self.millis();
        // Whoever moves the end of the rest is the one that tries; the others keep skipping meanwhile.
        now >= until
            && self
                .open_until
                .compare_exchange(until, now + millis(REST), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn failed(&self, error: &str) {
        let before = self.open_until.swap(self.millis() + millis(REST), Ordering::Relaxed);
        if before == 0 {
            tracing::warn!(error, "Redis does not answer; going on without it");
        }
    }

    fn answered(&self) {
        if self.open_until.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!("Redis answers again");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
