//! Bsale's API. A request that failed, or whose answer can't be read, is an error: never an empty page.

use std::time::Duration;

use chassis::redis::Redis;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use messaging::JobError;
use sea_orm::sqlx::{self, PgPool};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    bucket::{Bucket, Priority},
    config::BsaleSettings,
    metrics::{REQUEST_SECONDS, REQUESTS},
};

/// Records of a page at most, whatever is asked for.
pub const PAGE: usize = 50;
/// Pages that are asked for before the caller wants them.
const AHEAD: usize = 1;
/// Requests for single records or short lists that one run has under way at once; the bucket paces them.
pub const AT_ONCE: usize = 8;
/// The largest answer that is read: 50 documents with 25 lines each are some 100 kB.
const LARGEST: usize = 32 << 20;
/// How often a request is sent that met a failure of the moment.
const TRIES: u32 = 5;
/// How long nobody asks after a first refusal that does not say, and twice as long after each further one: a second
/// lets 8 requests go, and the window of 3,000 is 300 s long.
const COOLDOWN: Duration = Duration::from_secs(2);
const LONGEST_COOLDOWN: Duration = Duration::from_secs(300);
/// How long one request waits for a Bsale that refuses, in all: after that it gives up, and with it its run's place.
const MOST_COOLDOWN: Duration = Duration::from_secs(900);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 404.
    #[error("Bsale has no {0}")]
    NotFound(String),
    /// 402.
    #[error("Bsale answers 402: the account is not paid")]
    Unpaid,
    /// 400, 401, 403, 405: asking again won't help.
    #[error("Bsale answers {status} to {path}: {body}")]
    Refused { status: u16, path: String, body: String },
    /// The network, 5xx, an empty or broken body, five times in a row.
    #[error("Bsale does not answer {path}: {reason}")]
    Unavailable { path: String, reason: String },
    /// The bucket, which paces the requests.
    #[error("the pace of requests can't be kept")]
    Bucket(#[from] sqlx::Error),
}

impl From<ApiError> for JobError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::NotFound(_) | ApiError::Unpaid | ApiError::Refused { .. } => Self::fail(error),
            ApiError::Unavailable { .. } | ApiError::Bucket(_) => Self::retry(error),
        }
    }
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub body: String,
    /// When it was asked for, microseconds since 1970: the version of what it says.
    pub version: i64,
    /// Bsale's clock.
    pub date: DateTime<Utc>,
}

/// A page of a list.
#[derive(Debug)]
pub struct ListPage {
    pub items: Vec<Box<RawValue>>,
    /// All there are.
    pub count: u64,
    /// Whether there are more after these.
    pub more: bool,
    pub version: i64,
}

#[derive(Deserialize)]
struct ListBody {
    #[serde(default)]
    count: Option<u64>,
    items: Vec<Box<RawValue>>,
    #[serde(default)]
    next: Option<String>,
}

/// 0 active, 1 inactive, 99 deleted.
#[derive(Deserialize)]
struct StateBody {
    #[serde(default)]
    state: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct CountBody {
    count: u64,
}

/// The client of one token.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: url::Url,
    token: chassis::config::Secret<String>,
    patience: Duration,
    bucket: Bucket,
}

impl Client {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// A client that can't be built.
    pub fn new(settings: &BsaleSettings, pool: PgPool, redis: Redis) -> anyhow::Result<Self> {
        let bucket =
            Bucket::new(redis, pool, &format!("bsale {}", settings.token.expose()), settings.per_second);
        Ok(Self {
            http: chassis::http_client(),
            base: settings.url.clone(),
            token: settings.token.clone(),
            patience: settings.patience,
            bucket,
        })
    }

    /// Asks for `path` (below the base; no other host is ever asked).
    ///
    /// # Errors
    /// As [`ApiError`] says, after [`TRIES`] tries.
    pub async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
        priority: Priority,
    ) -> Result<Answer, ApiError> {
        let (mut failures, mut refusals) = (0, Refusals::default());
        loop {
            self.bucket.take(priority).await?;
            let reason = match self.once(path, query).await {
                Ok(Outcome::Answer(answer)) => return Ok(answer),
                Ok(Outcome::Limited(told)) => {
                    let Some(pause) = refusals.pause(told) else {
                        let reason = format!("429 for {} s", refusals.waited.as_secs());
                        return Err(ApiError::Unavailable { path: path.to_owned(), reason });
                    };
                    tracing::warn!(pause_s = pause.as_secs(), "Bsale limits us, all workers wait");
                    self.bucket.cool(pause).await?;
                    continue;
                }
                Ok(Outcome::Final(error)) => return Err(error),
                Err(reason) => reason,
            };
            failures += 1;
            if failures >= TRIES {
                return Err(ApiError::Unavailable { path: path.to_owned(), reason });
            }
            tracing::info!(path, reason, failures, "Bsale did not answer, asking again");
            tokio::time::sleep(Duration::from_millis(200 << failures)).await;
        }
    }

    async fn once(&self, path: &str, query: &[(&str, String)]) -> Result<Outcome, String> {
        let url = self.base.join(path).map_err(|error| error.to_string())?;
        let version = Utc::now().timestamp_micros();
        let timer = REQUEST_SECONDS.with_label_values(&["bsale"]).start_timer();
        let request = self
            .http
            .get(url)
            .query(query)
            .header("access_token", self.token.expose())
            .timeout(self.patience);
        let answered = async {
            let mut response = request.send().await?;
            let told = response.content_length().and_then(|length| usize::try_from(length).ok());
            let mut body = Vec::with_capacity(told.unwrap_or_default().min(LARGEST));
            while let Some(piece) = response.chunk().await? {
                if body.len() + piece.len() > LARGEST {
                    return Ok((response.status(), response.headers().clone(), None));
                }
                body.extend_from_slice(&piece);
            }
            Ok::<_, reqwest::Error>((response.status(), response.headers().clone(), Some(body)))
        };
        let answered = answered.await;
        timer.observe_duration();
        let count = |outcome: &str| REQUESTS.with_label_values(&["bsale", outcome]).inc();
        let (status, headers, body) = match answered {
            Ok(answered) => answered,
            Err(error) => {
                count("unreachable");
                return Err(error.without_url().to_string());
            }
        };
        count(status.as_str());
        let Some(body) = body else { return Err(format!("the answer has more than {LARGEST} bytes")) };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(200).collect::<String>();
        let refused =
            || ApiError::Refused { status: status.as_u16(), path: path.to_owned(), body: text(&body) };
        match status.as_u16() {
            200 if body.iter().all(u8::is_ascii_whitespace) => Err("200 with an empty body".to_owned()),
            200 => {
                let header = headers.get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
                let date = header.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
                let body = String::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())?;
                let date = date.map_or_else(Utc::now, |date| date.with_timezone(&Utc));
                Ok(Outcome::Answer(Answer { body, version, date }))
            }
            402 => Ok(Outcome::Final(ApiError::Unpaid)),
            404 => Ok(Outcome::Final(ApiError::NotFound(path.to_owned()))),
            429 => {
                let after = headers.get(reqwest::header::RETRY_AFTER).and_then(|after| after.to_str().ok());
                let after = after.and_then(|after| after.trim().parse().ok()).map(Duration::from_secs);
                Ok(Outcome::Limited(after))
            }
            400..=499 => Ok(Outcome::Final(refused())),
            _ => Err(format!("{status}: {}", text(&body))),
        }
    }

    /// A page of the list at `path`, from `offset` on.
    ///
    /// # Errors
    /// As [`Client::get`]; an answer that is no list counts as none.
    pub async fn page(
        &self,
        path: &str,
        query: &[(&str, String)],
        offset: u64,
        priority: Priority,
    ) -> Result<ListPage, ApiError> {
        let mut query = query.to_vec();
        query.extend([("limit", PAGE.to_string()), ("offset", offset.to_string())]);
        self.read(path, &query, priority, |answer| {
            let body: ListBody = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
            let received = body.items.len() as u64;
            let count = body.count.unwrap_or(offset + received);
            // Past the end of a list that shrank there is an empty page. Before it there is none.
            if body.items.is_empty() && (offset < count || body.next.is_some()) {
                return Err(format!("an empty page at {offset} of {count}"));
            }
            Ok(ListPage { items: body.items, count, more: body.next.is_some(), version: answer.version })
        })
        .await
    }

    /// The pages of the list at `path`, from `offset` on. They are asked for one after the other, as what comes and goes
    /// meanwhile shifts them; the next one while the caller works on the one before.
    pub fn pages(
        &self,
        path: &str,
        query: &[(&'static str, String)],
        offset: u64,
        priority: Priority,
    ) -> Pages {
        let (client, path, query) = (self.clone(), path.to_owned(), query.to_vec());
        let (sender, pages) = mpsc::channel(AHEAD);
        let asking = async move {
            let mut offset = offset;
            // Not before there is room for it.
            while let Ok(room) = sender.reserve().await {
                let page = client.page(&path, &query, offset, priority).await;
                let more = page.as_ref().is_ok_and(|page| page.more);
                offset += page.as_ref().map_or(0, |page| page.items.len() as u64);
                room.send(page);
                if !more {
                    break;
                }
            }
        };
        Pages { pages, _asking: AbortOnDropHandle::new(tokio::spawn(asking)) }
    }

    /// How many records the list at `path` (as `documents`) has, and Bsale's clock.
    ///
    /// # Errors
    /// As [`Client::page`].
    pub async fn count(
        &self,
        path: &str,
        query: &[(&str, String)],
        priority: Priority,
    ) -> Result<(u64, DateTime<Utc>), ApiError> {
        self.read(&format!("{path}/count.json"), query, priority, |answer| {
            let body: CountBody = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
            Ok((body.count, answer.date))
        })
        .await
    }

    /// One record. None: there is none of that id, or it is marked as deleted.
    ///
    /// # Errors
    /// As [`Client::page`].
    pub async fn one(
        &self,
        path: &str,
        query: &[(&str, String)],
        priority: Priority,
    ) -> Result<Option<(Box<RawValue>, i64)>, ApiError> {
        let asked = self.read(path, query, priority, |answer| {
            let raw =
                RawValue::from_string(answer.body.trim().to_owned()).map_err(|error| error.to_string())?;
            let body: StateBody = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
            let deleted = body.state.is_some_and(|state| matches!(state.get(), "99" | "\"99\""));
            Ok((!deleted).then_some((raw, answer.version)))
        });
        match asked.await {
            Ok(found) => Ok(found),
            Err(ApiError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks, and reads the answer; one that can't be read is asked for again, as it may have broken on the way.
    pub async fn read<T>(
        &self,
        path: &str,
        query: &[(&str, String)],
        priority: Priority,
        read: impl Fn(Answer) -> Result<T, String>,
    ) -> Result<T, ApiError> {
        let mut failures = 0;
        loop {
            let reason = match read(self.get(path, query, priority).await?) {
                Ok(read) => return Ok(read),
                Err(reason) => reason,
            };
            failures += 1;
            if failures >= TRIES {
                let reason = format!("its answer can't be read: {reason}");
                return Err(ApiError::Unavailable { path: path.to_owned(), reason });
            }
            tracing::info!(path, reason, failures, "Bsale's answer can't be read, asking again");
            tokio::time::sleep(Duration::from_millis(200 << failures)).await;
        }
    }
}

/// The pages of a list. Nobody asks for more of them once this is dropped.
pub struct Pages {
    pages: mpsc::Receiver<Result<ListPage, ApiError>>,
    _asking: AbortOnDropHandle<()>,
}

impl Pages {
    /// The next page, of a list that has more.
    ///
    /// # Errors
    /// As [`Client::page`].
    pub async fn next(&mut self) -> Result<ListPage, ApiError> {
        // Pages end with an error, or with one that says so: an end without either is no end of the list.
        let ended = || ApiError::Unavailable {
            path: "a list".to_owned(),
            reason: "whoever read its pages has ended".to_owned(),
        };
        self.pages.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

/// The answers to some requests, in their order.
///
/// # Errors
/// The first one's that fails.
pub async fn at_once<T, E>(
    requests: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<Vec<T>, E> {
    stream::iter(requests).buffered(AT_ONCE).try_collect().await
}

/// How often one request was refused for its number, and how long it has waited for that.
#[derive(Default)]
struct Refusals {
    times: u32,
    waited: Duration,
}

impl Refusals {
    /// For how long nobody asks now, after what the answer told. None: it has been long enough.
    fn pause(&mut self, told: Option<Duration>) -> Option<Duration> {
        if self.waited >= MOST_COOLDOWN {
            return None;
        }
        let pause = told.unwrap_or(COOLDOWN * 2_u32.pow(self.times)).clamp(COOLDOWN, LONGEST_COOLDOWN);
        self.times = (self.times + 1).min(8);
        self.waited += pause;
        Some(pause)
    }
}

/// What came of one request.
enum Outcome {
    Answer(Answer),
    /// 429: not for so long, if it says.
    Limited(Option<Duration>),
    Final(ApiError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bsale_that_only_refuses_is_given_up_and_meanwhile_never_asked_at_once() {
        for told in [None, Some(0), Some(3), Some(86_400)].map(|told| told.map(Duration::from_secs)) {
            let mut refusals = Refusals::default();
            let pauses: Vec<Duration> = std::iter::from_fn(|| refusals.pause(told)).take(10_000).collect();
            assert!(pauses.iter().all(|pause| (COOLDOWN..=LONGEST_COOLDOWN).contains(pause)), "{pauses:?}");
            let all: Duration = pauses.iter().sum();
            assert!((MOST_COOLDOWN..=2 * MOST_COOLDOWN).contains(&all), "{told:?}: {all:?}");
        }
    }

    #[tokio::test]
    async fn requests_at_once_answer_in_their_order_and_the_first_failure_is_told() {
        let answer = |number: u64| async move {
            tokio::time::sleep(Duration::from_millis(20 - number)).await;
            if number == 13 || number == 15 { Err(number) } else { Ok(number) }
        };
        assert_eq!(at_once((0..12).map(answer)).await, Ok((0..12).collect()));
        assert_eq!(at_once((0..20).map(answer)).await, Err(13));
    }
}
