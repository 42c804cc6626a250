//! Progress in Redis, for fast polling and for people who watch live. Redis holds a copy: it may be down,
//! slow or empty, and then PostgreSQL is asked.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::live::{self, LiveEvent};
use deadpool_redis::{Pool, redis};
use serde_json::Value;

use crate::metrics::metrics;

/// The longest that Redis may keep a caller waiting.
const PATIENCE: Duration = Duration::from_millis(200);
/// After a failure Redis is left alone for so long.
const OPEN: Duration = Duration::from_secs(3);
/// How long a document of a job that still runs is believed. If its end is not mirrored because Redis was
/// away, readers see the truth after so long.
const LIVE: Duration = Duration::from_secs(30);
/// How long the document of an ended job is kept.
const FINAL: Duration = Duration::from_secs(24 * 60 * 60);

/// KEYS: document, stream. ARGV: version, document, its life in ms, event or '', its field, entries kept.
const PUT: &str = "
local known = redis.call('HGET', KEYS[1], 'version')
if known and tonumber(known) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'document', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if ARGV[4] ~= '' then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', ARGV[5], ARGV[4])
end
return 1";

/// Mirrors documents of jobs into Redis. Clones share the connection pool and the circuit breaker.
#[derive(Clone)]
pub struct Mirror {
    pool: Pool,
    prefix: String,
    breaker: Arc<Breaker>,
}

impl Mirror {
    /// Keys begin with `prefix` (such as `lote:`).
    pub fn new(pool: Pool, prefix: &str) -> Self {
        Self { pool, prefix: prefix.to_owned(), breaker: Arc::default() }
    }

    /// Puts a job's document, unless Redis has one of this version or a later one, and with it tells those
    /// who watch. `is_final`: the job has ended, so its document stays for 24 hours; otherwise it is
    /// believed for 30 seconds. Never fails, and keeps the caller waiting for 200 ms at most, and that only
    /// once in some seconds while Redis is away.
    pub async fn put(
        &self,
        key: &str,
        version: i64,
        document: &Value,
        is_final: bool,
        event: Option<&LiveEvent>,
    ) {
        let life = if is_final { FINAL } else { LIVE };
        let event = event.and_then(|event| serde_json::to_string(event).ok()).unwrap_or_default();
        let mut put = redis::cmd("EVAL");
        put.arg(PUT).arg(2).arg(self.key(key)).arg(self.key(live::STREAM));
        put.arg(version).arg(document.to_string()).arg(life.as_millis() as u64);
        put.arg(event).arg(live::FIELD).arg(live::KEEP);
        let told = self
            .ask(async {
                let mut connection = self.pool.get().await?;
                let _new: i64 = put.query_async(&mut connection).await?;
                anyhow::Ok(())
            })
            .await;
        if told.is_none() {
            metrics().mirror_missed.inc();
        }
    }

    /// The document, where Redis has it. None: ask PostgreSQL.
    pub async fn get(&self, key: &str) -> Option<Value> {
        let document: Option<String> = self
            .ask(async {
                let mut connection = self.pool.get().await?;
                let mut ask = redis::cmd("HGET");
                ask.arg(self.key(key)).arg("document");
                anyhow::Ok(ask.query_async(&mut connection).await?)
            })
            .await?;
        serde_json::from_str(&document?).ok()
    }

    /// Tells those who watch about something that has no document.
    pub async fn announce(&self, event: &LiveEvent) {
        let Ok(event) = serde_json::to_string(event) else { return };
        let told = self
            .ask(async {
                let mut connection = self.pool.get().await?;
                let mut add = redis::cmd("XADD");
                add.arg(self.key(live::STREAM)).arg("MAXLEN").arg("~").arg(live::KEEP).arg("*");
                add.arg(live::FIELD).arg(event);
                let _id: String = add.query_async(&mut connection).await?;
                anyhow::Ok(())
            })
            .await;
        if told.is_none() {
            metrics().mirror_missed.inc();
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Asks Redis, unless it was found away a moment ago.
    async fn ask<T>(&self, question: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
        if !self.breaker.lets_through() {
            return None;
        }
        let failure = match tokio::time::timeout(PATIENCE, question).await {
            Ok(Ok(answer)) => {
                if self.breaker.close() {
                    tracing::info!("Redis is back");
                }
                return Some(answer);
            }
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer within {} ms", PATIENCE.as_millis()),
        };
        if self.breaker.open() {
            tracing::warn!(error = failure, "Redis is away, PostgreSQL answers instead");
        }
        None
    }
}

/// Leaves Redis alone for [`OPEN`] after a failure, and then lets one caller try.
#[derive(Default)]
struct Breaker {
    /// When somebody may ask again, in milliseconds after the start; 0 while all is well.
    ask_at: AtomicU64,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Breaker {
    fn next() -> u64 {
        (START.elapsed() + OPEN).as_millis() as u64
    }

    fn lets_through(&self) -> bool {
        let ask_at = self.ask_at.load(Ordering::Relaxed);
        ask_at == 0
            || START.elapsed().as_millis() as u64 >= ask_at
                && self
                    .ask_at
                    .compare_exchange(ask_at, Self::next(), Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
    }

    /// Returns whether it was open.
    fn close(&self) -> bool {
        self.ask_at.swap(0, Ordering::Relaxed) != 0
    }

    /// Returns whether it was closed.
    fn open(&self) -> bool {
        self.ask_at.swap(Self::next(), Ordering::Relaxed) == 0
    }
}
