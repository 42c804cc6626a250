//! The rates that all workers share, in Redis. While Redis is away each worker takes its share of them by itself.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chassis::redis::Redis;
use deadpool_redis::redis;
use sea_orm::sqlx::{self, PgPool};

use crate::domain::pace::{self, Ask, Bucket, Reserved};

/// How long after its claim a message may be given its start: what a pause or an opt-out may still see going.
pub const HORIZON: Duration = Duration::from_millis(250);

/// However slow the database is: what starts later than it was reserved for is reserved again.
pub const LONGEST_LEAD: Duration = Duration::from_millis(450);

/// As [`pace::reserve`], by the clock of Redis. KEYS: buckets. ARGV: lead and horizon in microseconds, of each bucket the
/// microseconds a part; then of each message its parts, how many buckets, and which.
const RESERVE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local first, times, each = now + tonumber(ARGV[1]), {}, {}
for i, key in ipairs(KEYS) do
    times[i] = math.max(tonumber(redis.call('GET', key) or '0'), first)
    each[i] = tonumber(ARGV[i + 2])
end
local horizon, at, wait, waits_for, starts = tonumber(ARGV[2]), #KEYS + 3, 0, 0, {}
while at <= #ARGV do
    local parts, many, start, slowest = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), first, 0
    for i = at + 2, at + 1 + many do
        local bucket = tonumber(ARGV[i])
        if times[bucket] > start then start, slowest = times[bucket], bucket end
    end
    if start - now > horizon then wait, waits_for = start - now, slowest break end
    for i = at + 2, at + 1 + many do
        local bucket = tonumber(ARGV[i])
        times[bucket] = start + parts * each[bucket]
    end
    starts[#starts + 1] = math.floor(start - now)
    at = at + 2 + many
end
if #starts == 0 then return { math.floor(wait), waits_for } end
for i, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', times[i]), 'PX', math.ceil((times[i] - now) / 1000) + 60000)
end
table.insert(starts, 1, waits_for)
table.insert(starts, 1, math.floor(wait))
return starts";

/// The buckets.
pub struct Buckets {
    redis: Redis,
    pool: PgPool,
    started: Instant,
    /// While Redis is away.
    local: Mutex<HashMap<String, f64>>,
    /// How long it takes lately until what is reserved can start, in microseconds.
    lead_us: AtomicU64,
}

impl Buckets {
    pub fn new(redis: Redis, pool: PgPool) -> Self {
        Self { redis, pool, started: Instant::now(), local: Mutex::default(), lead_us: AtomicU64::new(0) }
    }

    /// How long after its reservation a message can start: what lies between takes so long lately, and half as long again.
    pub fn lead(&self) -> Duration {
        Duration::from_micros(self.lead_us.load(Ordering::Relaxed).saturating_mul(3) / 2).min(LONGEST_LEAD)
    }

    /// Notes how long it took from a reservation until its messages could start.
    pub fn took(&self, time: Duration) {
        let took = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let old = self.lead_us.load(Ordering::Relaxed);
        // At once what is longer, little by little what is shorter.
        self.lead_us.store(took.max(old - old / 8), Ordering::Relaxed);
    }

    /// Reserves for the first of `asks`, as many as may start within `horizon`, and none before `lead` has passed. What is
    /// reserved is taken, whether it is used or not.
    pub async fn reserve(
        &self,
        buckets: &[Bucket],
        asks: &[Ask],
        lead: Duration,
        horizon: Duration,
    ) -> Reserved {
        let mut command = redis::cmd("EVAL");
        command.arg(RESERVE).arg(buckets.len());
        for bucket in buckets {
            command.arg(self.redis.key(&format!("sms:pace:{}", bucket.key)));
        }
        command.arg(lead.as_micros() as u64).arg(horizon.as_micros() as u64);
        for bucket in buckets {
            command.arg(1e6 / bucket.per_second);
        }
        for ask in asks {
            command.arg(ask.parts).arg(ask.buckets.len());
            for bucket in &ask.buckets {
                command.arg(bucket + 1);
            }
        }
        match self.redis.query::<Vec<u64>>(&command).await {
            Ok(answer) if answer.len() >= 2 => Reserved {
                starts_us: answer[2..].to_vec(),
                wait_us: answer[0],
                // Lua counts from 1.
                waits_for: usize::try_from(answer[1]).ok().and_then(|bucket| bucket.checked_sub(1)),
            },
            Ok(_) => self.alone(buckets, asks, lead, horizon).await,
            Err(error) => {
                tracing::debug!(%error, "the rate is kept without Redis");
                self.alone(buckets, asks, lead, horizon).await
            }
        }
    }

    /// This worker's share of the rates.
    async fn alone(&self, buckets: &[Bucket], asks: &[Ask], lead: Duration, horizon: Duration) -> Reserved {
        let shares = live_workers(&self.pool).await;
        let buckets: Vec<Bucket> = buckets
            .iter()
            .map(|bucket| Bucket { per_second: bucket.per_second / shares, ..bucket.clone() })
            .collect();
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.started.elapsed().as_micros() as f64;
        let bounds = (lead.as_micros() as f64, horizon.as_micros() as f64);
        pace::reserve(&mut local, now, &buckets, asks, bounds)
    }
}

/// How many workers live, this one at least.
async fn live_workers(pool: &PgPool) -> f64 {
    let counted = sqlx::query_scalar::<_, i64>(
        "select count(*) from workers where service = $1 and seen_at > now() - interval '30 seconds'",
    )
    .bind(crate::SERVICE)
    .fetch_one(pool)
    .await;
    counted.unwrap_or(1).max(1) as f64
}
