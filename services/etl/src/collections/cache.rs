//! Answers that were computed before. Redis keeps them by question and version of the data, so a refresh makes all of
//! them old at once and nothing has to be deleted. However many ask what is not there, one computes it: one of this
//! process, and one of all replicas while Redis is up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chassis::{
    db::{self, orm},
    redis::Redis,
};
use chrono::{DateTime, Utc};
use deadpool_redis::redis::cmd;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use sea_orm::{DbErr, sqlx::PgPool};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinError;
use uuid::Uuid;

use super::{answers, question::Question, settings::CollectionsSettings};
use crate::{
    metrics::{CACHE_HITS, CACHE_MISSES},
    storage::mart_version,
};

/// How long a replica has for a computation before another begins it too.
const COMPUTING: Duration = Duration::from_secs(10);
/// How often one that waits for another replica looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long a process remembers an answer that Redis did not take.
const WITHOUT_REDIS: Duration = Duration::from_secs(5);

/// How answers are made: raised with each change of a formula or a shape, so that nobody gets one that was made before.
const FORM: u32 = 1;

/// An answer, and what it is from.
#[derive(Clone, Debug)]
pub struct Answer {
    /// JSON.
    pub body: Bytes,
    pub version: i64,
    pub as_of: Option<DateTime<Utc>>,
    pub cache: Cache,
}

/// Whether an answer was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    Hit,
    Miss,
    /// It is of the version before, whole, while that of the present one is computed.
    Stale,
}

impl Cache {
    /// As `X-Cache` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Stale => "STALE",
        }
    }
}

impl Answer {
    /// A strong validator: of the bytes.
    pub fn etag(&self) -> String {
        let digest = Sha256::digest(&self.body);
        let digits: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\"{digits}\"")
    }
}

/// Why there is no answer. The same for all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// Whether asking again soon makes sense.
    pub unavailable: bool,
    pub message: Arc<str>,
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self { unavailable: db::any_unavailable(&error), message: format!("{error:#}").into() }
    }
}

impl From<DbErr> for Failed {
    fn from(error: DbErr) -> Self {
        anyhow::Error::from(error).into()
    }
}

type Flight = Shared<BoxFuture<'static, Result<Answer, Failed>>>;

/// Answers questions. Clones share what they compute.
#[derive(Clone)]
pub struct Dashboards {
    pool: PgPool,
    redis: Redis,
    settings: Arc<CollectionsSettings>,
    flights: Arc<Mutex<HashMap<String, Flight>>>,
}

impl Dashboards {
    pub fn new(pool: PgPool, redis: Redis, settings: CollectionsSettings) -> Self {
        Self { pool, redis, settings: Arc::new(settings), flights: Arc::default() }
    }

    /// The answer to a question, of the data that there is now; or of the version before it, where that is kept and this
    /// one is not: then it is being computed, so that nobody waits for what a refresh has made old.
    ///
    /// # Errors
    /// PostgreSQL. Without Redis it only takes longer.
    pub async fn ask(&self, question: Question) -> Result<Answer, Failed> {
        let mart_version::Model { version, epoch, as_of, .. } = mart_version::get(&orm(&self.pool)).await?;
        let digest = digest(&question, &self.settings, epoch);
        let key = self.key(&question, version, &digest);
        if let Ok(Some(answer)) = self.kept(&key).await {
            CACHE_HITS.with_label_values(&[question.endpoint()]).inc();
            // A refresh that found nothing new has moved the moment on since it was kept.
            return Ok(Answer { as_of, ..answer });
        }
        let before = self.key(&question, version - 1, &digest);
        let endpoint = question.endpoint();
        let flight = self.flight(question, key, digest);
        if let Ok(Some(answer)) = self.kept(&before).await {
            CACHE_HITS.with_label_values(&[endpoint]).inc();
            // The computation is a task of its own: it goes on without anybody waiting for it.
            return Ok(Answer { cache: Cache::Stale, ..answer });
        }
        flight.await
    }

    fn flight(&self, question: Question, key: String, digest: String) -> Flight {
        let (this, of) = (self.clone(), key.clone());
        self.fly(key, async move {
            match this.alone(&question, &of, &digest).await {
                Ok((answer, kept)) => (Ok(answer), kept),
                Err(failed) => (Err(failed), true),
            }
        })
    }

    /// Joins the computation that this process has for the key, or begins one, which also says whether Redis has the answer. It
    /// goes on when who began it leaves. However it ends, the next one begins another.
    fn fly(
        &self,
        key: String,
        work: impl Future<Output = (Result<Answer, Failed>, bool)> + Send + 'static,
    ) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (this, of) = (self.clone(), key.clone());
        let work = tokio::spawn(work);
        let work = tokio::spawn(async move {
            let (answer, kept) = work.await.unwrap_or_else(|error| (Err(broken(error)), true));
            if kept {
                this.land(&of);
            } else {
                tokio::spawn(async move {
                    tokio::time::sleep(WITHOUT_REDIS).await;
                    this.land(&of);
                });
            }
            answer
        });
        let flight = async move { work.await.unwrap_or_else(|error| Err(broken(error))) }.boxed().shared();
        flights.insert(key, flight.clone());
        flight
    }

    fn land(&self, key: &str) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Computes the answer, unless another replica does: then waits for it. Also whether Redis has it.
    async fn alone(&self, question: &Question, key: &str, digest: &str) -> Result<(Answer, bool), Failed> {
        let turn = format!("{key}:computing");
        let started = tokio::time::Instant::now();
        while started.elapsed() < COMPUTING {
            let millis = u64::try_from(COMPUTING.as_millis()).unwrap_or(u64::MAX);
            let ask = cmd("SET").arg(&turn).arg(1).arg("NX").arg("PX").arg(millis).to_owned();
            match self.redis.query::<Option<String>>(&ask).await {
                Ok(Some(_)) => {
                    // Who had the turn before may have kept it just now.
                    let answer = match self.kept(key).await {
                        Ok(Some(answer)) => Ok((answer, true)),
                        _ => self.compute(question, digest).await,
                    };
                    // Past its time the turn may be another's by now; then there is one computation more.
                    if let Err(error) = self.redis.query::<i64>(cmd("DEL").arg(&turn)).await {
                        tracing::debug!(%error, "the turn ends by its time");
                    }
                    return answer;
                }
                Ok(None) => {
                    tokio::time::sleep(LOOK).await;
                    if let Ok(Some(answer)) = self.kept(key).await {
                        return Ok((answer, true));
                    }
                }
                Err(_) => break,
            }
        }
        self.compute(question, digest).await
    }

    async fn compute(&self, question: &Question, digest: &str) -> Result<(Answer, bool), Failed> {
        CACHE_MISSES.with_label_values(&[question.endpoint()]).inc();
        let (version, body) = answers::answer(&self.pool, &self.settings, question).await?;
        let answer =
            Answer { body: body.into(), version: version.version, as_of: version.as_of, cache: Cache::Miss };
        // A refresh may have come between: it is kept under the version that it is from.
        let kept = self.keep(question, &self.key(question, version.version, digest), &answer).await;
        Ok((answer, kept))
    }

    async fn kept(&self, key: &str) -> Result<Option<Answer>, chassis::redis::Unanswered> {
        let bytes: Option<Vec<u8>> = self.redis.query(cmd("GET").arg(key)).await?;
        // What is not understood is as good as not there.
        Ok(bytes.and_then(|bytes| decode(bytes.into())))
    }

    async fn keep(&self, question: &Question, key: &str, answer: &Answer) -> bool {
        let ttl = match question {
            Question::Dashboard { .. } | Question::Operation { .. } => self.settings.dashboard_ttl,
            Question::Evolution { .. } | Question::Productivity { .. } => self.settings.evolution_ttl,
            Question::Assignment { .. } => self.settings.assignment_ttl,
        };
        // What was computed at one moment does not expire at one moment.
        let millis = (ttl.as_secs_f64() * 1_000.0 * rand::random_range(0.9..1.1)) as u64;
        let command = cmd("SET").arg(key).arg(encode(answer)).arg("PX").arg(millis.max(1)).to_owned();
        let kept = self.redis.query::<String>(&command).await;
        if let Err(error) = &kept {
            tracing::debug!(%error, "the answer is not kept");
        }
        kept.is_ok()
    }

    fn key(&self, question: &Question, version: i64, digest: &str) -> String {
        self.redis.key(&format!("collections:{}:{version}:{digest}", question.endpoint()))
    }
}

/// A computation that panicked.
fn broken(error: JoinError) -> Failed {
    anyhow::Error::from(error).context("computing an answer").into()
}

/// The same for the same question, however it was asked; another where answers are made by other settings or in another
/// form, or where versions are counted again because the schema was made or restored.
fn digest(question: &Question, settings: &CollectionsSettings, epoch: Uuid) -> String {
    let CollectionsSettings { holidays, thresholds, .. } = settings;
    let canonical = serde_json::to_vec(&(FORM, question, holidays, thresholds, epoch)).unwrap_or_default();
    Sha256::digest(&canonical)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line of what it is from, then the body.
fn encode(answer: &Answer) -> Vec<u8> {
    let as_of = answer.as_of.map(|at| at.to_rfc3339()).unwrap_or_default();
    let mut bytes = format!("{} {as_of}\n", answer.version).into_bytes();
    bytes.extend_from_slice(&answer.body);
    bytes
}

fn decode(bytes: Bytes) -> Option<Answer> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let (version, as_of) = line.split_once(' ')?;
    let as_of =
        if as_of.is_empty() { None } else { Some(DateTime::parse_from_rfc3339(as_of).ok()?.to_utc()) };
    Some(Answer { body: bytes.slice(end + 1..), version: version.parse().ok()?, as_of, cache: Cache::Hit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_made_otherwise_has_another_place() {
        let today = "2025-06-20".parse().expect("a day");
        let question = crate::collections::question::operation(None, today).expect("clear");
        let mut env = chassis::config::Env::from_map([("COLLECTIONS_HOLIDAYS", "2025-05-01")]);
        let holiday = CollectionsSettings::read(&mut env);
        let plain = CollectionsSettings { holidays: Vec::new(), ..holiday.clone() };
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(digest(&question, &plain, one), digest(&question, &plain.clone(), one));
        assert_ne!(digest(&question, &plain, one), digest(&question, &holiday, one), "other settings");
        assert_ne!(digest(&question, &plain, one), digest(&question, &plain, other), "another timeline");
    }

    async fn panics() -> (Result<Answer, Failed>, bool) {
        panic!("a test that panics")
    }

    #[tokio::test]
    async fn a_computation_that_panics_is_not_the_answer_for_ever() {
        let mut env = chassis::config::Env::from_map([("REDIS_URL", "redis://127.0.0.1:1")]);
        let redis = Redis::new(&chassis::config::RedisSettings::read(&mut env)).expect("a URL");
        let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1:1/nothing").expect("a URL");
        let dashboards = Dashboards::new(pool, redis, CollectionsSettings::read(&mut env));
        assert!(dashboards.fly("key".to_owned(), panics()).await.is_err());
        let answer = Answer { body: Bytes::from_static(b"{}"), version: 7, as_of: None, cache: Cache::Miss };
        let second = dashboards.fly("key".to_owned(), async move { (Ok(answer), true) });
        assert_eq!(second.await.expect("another one").version, 7);
    }

    #[test]
    fn what_is_kept_comes_back() {
        let as_of = "2025-06-20T12:00:00.5Z".parse().ok();
        for as_of in [as_of, None] {
            let answer =
                Answer { body: Bytes::from_static(b"{\"a\":\n1}"), version: 7, as_of, cache: Cache::Miss };
            let back = decode(encode(&answer).into()).expect("understood");
            assert_eq!((back.body, back.version, back.as_of), (answer.body, 7, as_of));
        }
        assert!(decode(Bytes::from_static(b"old form")).is_none());
    }
}
