//! The pace of requests with one credential, over all processes: Redis keeps it, and PostgreSQL where Redis is down.
//!
//! Requests are spaced evenly (GCRA without a burst), so that no second sees more than the source allows (Bsale: 8
//! since October 2025; that is also fewer than 3,000 in 300 s). Whoever is less urgent gives way: it takes no slot while somebody
//! more urgent waits for one. SQL by hand: a slot is taken in one statement, by the database's clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chassis::redis::Redis;
use deadpool_redis::redis::cmd;
use sea_orm::sqlx::{self, PgPool};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

/// How urgent a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody has just changed something.
    Webhook,
    Daily,
    Backfill,
}

impl Priority {
    const fn rank(self) -> u8 {
        match self {
            Self::Webhook => 0,
            Self::Daily => 1,
            Self::Backfill => 2,
        }
    }
}

/// A request that is sent so much after its slot is too near to the next one.
const LATE: Duration = Duration::from_millis(20);

/// A timer counts in these and rounds up: a shorter wait would cost one, and a request that comes by less than one too
/// early is far within what [`Bucket::new`] leaves.
const TICK: Duration = Duration::from_millis(1);

/// Slots are taken together where they are all within so long, and are good for as long. What of them is used late and what
/// early are two hundredths of a second's, which is within what [`Bucket::new`] leaves. Others wait so much longer for
/// theirs, and a cooldown is seen so much later by who has some left.
const TOGETHER: Duration = Duration::from_millis(10);
/// How many are, at most.
const MOST_TOGETHER: u128 = 16;

/// KEYS: the bucket. ARGV: spacing in microseconds, rank, slots. Gives the microseconds to wait, then how many slots after
/// that are the caller's; -1 where nobody has said yet whether a cooldown outlived a restart of Redis. Who waits is known to
/// until the slots that others took together are over, and a little longer: it asks again only then.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local spacing, rank = tonumber(ARGV[1]), tonumber(ARGV[2])
local state = redis.call('HMGET', KEYS[1], 'next', 'cooldown', 'w0', 'w1')
if not state[2] then return {-1, 0} end
local cooldown = tonumber(state[2])
if cooldown > now then return {cooldown - now, 0} end
for other = 0, rank - 1 do
  if tonumber(state[3 + other] or '0') > now then return {spacing, 0} end
end
local next = math.max(tonumber(state[1] or '0'), now)
if next - now > spacing then
  if rank < 2 then redis.call('HSET', KEYS[1], 'w' .. rank, next + 3 * spacing) end
  return {next - now - spacing, 0}
end
if rank < 2 then redis.call('HDEL', KEYS[1], 'w' .. rank) end
redis.call('HSET', KEYS[1], 'next', next + spacing * tonumber(ARGV[3]))
redis.call('EXPIRE', KEYS[1], 86400)
return {next - now, tonumber(ARGV[3])}
";

/// KEYS: the bucket. ARGV: for how many microseconds from now nobody asks. A longer one that stands stays.
const COOL: &str = r"
local time = redis.call('TIME')
local till = time[1] * 1000000 + time[2] + tonumber(ARGV[1])
local stands = tonumber(redis.call('HGET', KEYS[1], 'cooldown') or '0')
redis.call('HSET', KEYS[1], 'cooldown', math.max(till, stands))
redis.call('EXPIRE', KEYS[1], 86400)
return 1
";

/// The bucket of one credential.
#[derive(Clone)]
pub(crate) struct Bucket {
    redis: Redis,
    pool: PgPool,
    credential: String,
    spacing: Duration,
    /// How many slots are taken together: one, where the source allows fewer than some 200 a second.
    together: u32,
    /// What is left of them, by rank. Who asks for more holds it, so that those behind need not ask.
    left: Arc<[Mutex<Slots>; 3]>,
    /// How often the source has refused: slots of before that are void.
    refusals: Arc<AtomicU64>,
}

/// Slots that were taken together and are not used yet.
#[derive(Default)]
struct Slots {
    number: u32,
    until: Option<Instant>,
    refusals: u64,
}

impl Bucket {
    /// `per_second` requests a second of who has `credential`, which begins with the source's name. A twenty-fifth slower than that, so that requests that the
    /// network brought nearer together don't make one too many.
    pub fn new(redis: Redis, pool: PgPool, credential: &str, per_second: u32) -> Self {
        let hash = Sha256::digest(credential);
        let credential = hash[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let spacing = spacing(per_second);
        let (left, refusals) = Default::default();
        Self { redis, pool, credential, spacing, together: together(spacing), left, refusals }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// Neither Redis nor PostgreSQL answers.
    pub async fn take(&self, priority: Priority) -> Result<(), sqlx::Error> {
        if self.together < 2 {
            return self.ask(priority).await.map(drop);
        }
        let mut left = self.left[usize::from(priority.rank())].lock().await;
        let refusals = self.refusals.load(Ordering::Relaxed);
        let good = left.refusals == refusals && left.until.is_some_and(|until| Instant::now() < until);
        if !good || left.number == 0 {
            // Nothing is left if this is given up on the way.
            *left = Slots::default();
            let number = self.ask(priority).await?;
            *left = Slots { number, until: Some(Instant::now() + TOGETHER), refusals };
        }
        left.number -= 1;
        Ok(())
    }

    /// Waits until slots are there. Gives how many: one at least.
    async fn ask(&self, priority: Priority) -> Result<u32, sqlx::Error> {
        let mut late = 0;
        loop {
            let mut asked = Instant::now();
            let turn = match self.ask_redis(priority).await {
                Some((wait, _)) if wait < 0 => {
                    if self.recall().await? {
                        continue;
                    }
                    // It answers and takes nothing: its disk or its memory is full.
                    None
                }
                Some((wait, mine)) => Some((Duration::from_micros(wait.unsigned_abs()), mine)),
                None => None,
            };
            let (wait, mine) = match turn {
                Some(turn) => turn,
                None => {
                    // How long Redis did not answer is no part of the wait.
                    asked = Instant::now();
                    (self.ask_postgres().await?, 1)
                }
            };
            let slots = u32::try_from(mine).unwrap_or_default();
            let mine = slots > 0;
            if let Some(pause) = pause(wait, asked.elapsed(), mine) {
                tokio::time::sleep(pause).await;
            }
            // Who wakes too late would come too near to the next one, and stands in line again.
            let in_time = asked.elapsed().saturating_sub(wait) < LATE || self.spacing < 4 * LATE;
            if mine && (in_time || late >= 3) {
                return Ok(slots);
            }
            late += u32::from(mine);
        }
    }

    /// Nobody asks for so long: the source has refused.
    ///
    /// # Errors
    /// PostgreSQL, which keeps it over restarts.
    pub async fn cool(&self, pause: Duration) -> Result<(), sqlx::Error> {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        sqlx::query(
            "insert into buckets as b (credential, cooldown_until) values ($1, now() + make_interval(secs => $2))
             on conflict (credential) do update
             set cooldown_until = greatest(b.cooldown_until, excluded.cooldown_until)",
        )
        .bind(&self.credential)
        .bind(pause.as_secs_f64())
        .execute(&self.pool)
        .await?;
        // Else PostgreSQL alone knows it, and tells Redis when it is back.
        let _kept = self.cool_redis(pause).await;
        Ok(())
    }

    async fn ask_redis(&self, priority: Priority) -> Option<(i64, i64)> {
        let mut script = cmd("EVAL");
        script.arg(TAKE).arg(1).arg(self.key()).arg(micros(self.spacing)).arg(priority.rank());
        script.arg(self.together);
        self.redis.query_shared::<(i64, i64)>(&script).await.ok()
    }

    /// Tells a Redis that knows nothing (it was restarted) until when nobody may ask. Whether it took it.
    async fn recall(&self) -> Result<bool, sqlx::Error> {
        let left: Option<f64> = sqlx::query_scalar(
            "select greatest(extract(epoch from cooldown_until - now()), 0)::float8 from buckets where credential = $1",
        )
        .bind(&self.credential)
        .fetch_optional(&self.pool)
        .await?
        .flatten();
        Ok(self.cool_redis(Duration::from_secs_f64(left.unwrap_or_default())).await)
    }

    /// Whether Redis keeps it.
    async fn cool_redis(&self, pause: Duration) -> bool {
        let mut script = cmd("EVAL");
        script.arg(COOL).arg(1).arg(self.key()).arg(micros(pause));
        let kept = self.redis.query_shared::<i64>(&script).await;
        if let Err(error) = &kept {
            tracing::debug!(%error, "the cooldown is in PostgreSQL only");
        }
        kept.is_ok()
    }

    /// The same with a row for a bucket; urgency does not count while Redis is away.
    async fn ask_postgres(&self) -> Result<Duration, sqlx::Error> {
        let wait: f64 = sqlx::query_scalar(
            "insert into buckets as b (credential, next_at) values ($1, clock_timestamp() + make_interval(secs => $2))
             on conflict (credential) do update
             set next_at = greatest(b.next_at, b.cooldown_until, clock_timestamp()) + make_interval(secs => $2)
             returning extract(epoch from next_at - make_interval(secs => $2) - clock_timestamp())::float8",
        )
        .bind(&self.credential)
        .bind(self.spacing.as_secs_f64())
        .fetch_one(&self.pool)
        .await?;
        Ok(Duration::from_secs_f64(wait.max(0.0)))
    }

    fn key(&self) -> String {
        self.redis.key(&format!("bucket:{}", self.credential))
    }
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("spacing", &self.spacing).finish_non_exhaustive()
    }
}

/// From one request to the next: a twenty-fifth more than what is allowed.
fn spacing(per_second: u32) -> Duration {
    let spacing = Duration::from_secs(1) / per_second.max(1);
    spacing + spacing / 25
}

/// How many slots are taken together.
fn together(spacing: Duration) -> u32 {
    let within = TOGETHER.as_nanos() / spacing.as_nanos().max(1);
    u32::try_from(within.clamp(1, MOST_TOGETHER)).unwrap_or(1)
}

/// How long to sleep on an answer that says to wait, of which so much has passed with asking.
fn pause(wait: Duration, passed: Duration, mine: bool) -> Option<Duration> {
    let left = wait.saturating_sub(passed);
    if mine {
        return Some(left).filter(|left| *left >= TICK);
    }
    Some(left.clamp(Duration::from_millis(2), Duration::from_secs(5)))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_has_come_waits_for_no_timer() {
        let pause = |wait, passed, mine| {
            let micros = Duration::from_micros;
            super::pause(micros(wait), micros(passed), mine)
        };
        assert_eq!(pause(0, 0, true), None);
        assert_eq!(pause(900, 0, true), None);
        assert_eq!(pause(130_000, 129_500, true), None);
        assert_eq!(pause(130_000, 400, true), Some(Duration::from_micros(129_600)));
        // Who has no turn asks again, and not in a circle.
        assert_eq!(pause(0, 0, false), Some(Duration::from_millis(2)));
        assert_eq!(pause(60_000_000, 0, false), Some(Duration::from_secs(5)));
    }

    #[test]
    fn slots_that_are_taken_together_keep_the_quota() {
        let together = |per_second| super::together(spacing(per_second));
        assert_eq!([8, 50, 100].map(together), [1, 1, 1]);
        assert_eq!([500, 2_000, 100_000].map(together), [4, 16, 16]);
        for per_second in 1..3_000 {
            // Those of a second, those before it that are used late, and those after it that are used early.
            let others = if together(per_second) > 1 { 2 * TOGETHER } else { Duration::ZERO };
            let most = (Duration::from_secs(1) + others).as_nanos() / spacing(per_second).as_nanos();
            assert!(most <= u128::from(per_second), "{per_second}: {most}");
        }
    }
}
