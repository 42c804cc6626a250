//! What a provider of messages is: it takes a message, says what became of one, and what is left of the money.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::{RequestBuilder, StatusCode, header::HeaderMap};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::domain::{Phone, outcomes};
pub use crate::domain::{
    message_state::Observed,
    money::Money,
    outcomes::{Outcome, Verdict},
    parts::Encoding,
    report::Report,
    sender::{ProviderName, Sender, SenderKind},
};

/// How long a submission may take from its first byte to the last byte of its answer. A deadline of a submission covers at
/// least this.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// How long after it was claimed a request may be under way: its start, at most a second later, and its timeout.
pub const UNDER_WAY: Duration = SEND_TIMEOUT.saturating_add(Duration::from_secs(10));
/// How long any other question may take.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection is kept unused. Load balancers close theirs after a minute and more; a request on a connection
/// that is just being closed may or may not arrive, and would be an unknown.
const IDLE: Duration = Duration::from_secs(20);

/// One message as it is handed to a provider.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The ledger's id.
    pub id: Uuid,
    /// The number of the attempt, from 1.
    pub attempt: i16,
    pub to: Phone,
    pub from: Sender,
    pub text: String,
    /// What its parts were counted in; it is sent so, whatever the provider would choose.
    pub encoding: Encoding,
    /// How long it may wait at the provider before it is worthless; none: as long as the provider keeps it. Telnyx has no
    /// such parameter.
    pub validity: Option<Duration>,
    /// Where the provider reports to; it names the message and the attempt, because nothing else of ours comes back.
    pub callback_url: String,
}

impl OutgoingMessage {
    /// What stays the same where the same attempt is submitted once more, and is another for each other attempt.
    pub fn idempotency_key(&self) -> String {
        format!("{}:{}", self.id, self.attempt)
    }
}

/// Without the phone and the text.
impl fmt::Debug for OutgoingMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OutgoingMessage")
            .field("id", &self.id)
            .field("attempt", &self.attempt)
            .field("to", &self.to.masked())
            .field("from", &self.from)
            .field("encoding", &self.encoding)
            .finish_non_exhaustive()
    }
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// The provider has it.
    Accepted(Receipt),
    /// The provider surely doesn't have it.
    NotAccepted(Refusal),
    /// It may have it. It is not sent again.
    Unknown {
        /// For people, in Spanish.
        reason: String,
    },
}

/// The provider's receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The provider's id: Telnyx's UUID, or the 32 hexadecimal digits of Twilio's SID.
    pub provider_id: Uuid,
    /// What it says of the message: nearly always [`Observed::Accepted`].
    pub observed: Observed,
    /// Why it doesn't arrive, where it says so at once.
    pub verdict: Option<Verdict>,
    /// Parts that it counts; none where it doesn't know yet.
    pub parts: Option<u16>,
    /// How long its own rates keep the message in its queue.
    pub wait: Option<Duration>,
    pub cost: Option<Money>,
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Never [`Outcome::Accepted`] nor [`Outcome::Unknown`].
    pub verdict: Verdict,
    /// How long the provider, or what answers on the way to it, wants to be left alone, or until when it is closed; none where it
    /// doesn't say, and where nobody answered.
    pub pause: Option<Duration>,
}

/// A submission whose outcome nobody knows, as the provider's records are searched for it.
#[derive(Clone, Debug)]
pub struct Sought {
    pub message: OutgoingMessage,
    /// When the request may have been made.
    pub from: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

/// The account's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// What may still be spent, credit included.
    pub available: Money,
}

/// Someone opted out at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptOut {
    pub phone: Phone,
    pub at: Option<DateTime<Utc>>,
    /// The word that did it: `STOP`.
    pub keyword: Option<String>,
}

/// One page of opt-outs.
#[derive(Clone, Debug, Default)]
pub struct OptOutPage {
    pub opt_outs: Vec<OptOut>,
    /// What the next page is asked with; none after the last.
    pub next: Option<u32>,
}

/// Why a provider didn't answer a question. Nothing of ours was changed by asking.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Too many requests; after this pause again.
    #[error("the provider wants a pause of {0:?}")]
    Throttled(Duration),
    /// The credential, the account or the address is wrong: asking again gives the same.
    #[error("the provider refuses us: {0}")]
    Denied(String),
    /// Not now.
    #[error("the provider can't be asked: {0}")]
    Unavailable(String),
}

/// A provider of messages.
#[async_trait]
pub trait Messaging: fmt::Debug + Send + Sync {
    fn name(&self) -> ProviderName;

    /// Submits a message, once: no layer below repeats the request. It takes no longer than [`SEND_TIMEOUT`].
    async fn send(&self, message: &OutgoingMessage) -> Submission;

    /// What the provider's records have of a submission. None found proves nothing while the provider may still queue it.
    /// Where several records match, and nothing tells them apart (Twilio keeps no id of ours), all are returned.
    ///
    /// # Errors
    /// As [`AskError`] says.
    async fn find(&self, sought: &Sought) -> Result<Vec<Report>, AskError>;

    /// What the provider says now of a message that it accepted; none where it knows none of that id.
    ///
    /// # Errors
    /// As [`AskError`] says.
    async fn fetch(&self, provider_id: Uuid) -> Result<Option<Report>, AskError>;

    /// What may still be spent; none where the provider charges nothing.
    ///
    /// # Errors
    /// As [`AskError`] says.
    async fn balance(&self) -> Result<Option<Balance>, AskError>;

    /// Who opted out at the provider since then, a page at a time; the first is page 1.
    ///
    /// # Errors
    /// As [`AskError`] says.
    async fn opt_outs(&self, since: DateTime<Utc>, page: u32) -> Result<OptOutPage, AskError>;
}

/// The shortest pause that is taken from a header: one of nothing would have the same request made again at once, and again.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause that is taken from a header.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// How long who has too much of it on the way to the provider is left alone, where it says neither that nor a code.
const UNSAID: Duration = Duration::from_secs(10);

/// How long the provider wants to be left alone, by the headers of its answer.
pub(super) fn pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = ["retry-after", "x-ratelimit-reset"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok()?.trim().parse().ok())?;
    Some(Duration::from_secs(seconds).clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
}

/// Sends a submission. Its answer is there once all of it is: a status alone is no receipt, and no reason.
pub(super) async fn exchange(request: RequestBuilder) -> reqwest::Result<(StatusCode, HeaderMap, Bytes)> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok((status, headers, response.bytes().await?))
}

/// What a request means that had no answer. Where there was no connection, nothing was sent.
pub(super) fn unanswered(error: &reqwest::Error) -> Submission {
    if error.is_connect() {
        let verdict = Verdict {
            outcome: Outcome::Later,
            code: None,
            reason: "No hay conexión con el proveedor.".to_owned(),
            suppresses: false,
            landline: false,
            billed: false,
            repeatable: true,
        };
        return Submission::NotAccepted(Refusal { verdict, pause: None });
    }
    let reason = match error.is_timeout() {
        true => "El proveedor no respondió a tiempo.",
        false => "La conexión se cortó antes de la respuesta del proveedor.",
    };
    Submission::Unknown { reason: reason.to_owned() }
}

/// The answer of a submission that was refused, or that says nothing.
pub(super) fn refused(
    provider: ProviderName,
    status: StatusCode,
    headers: &HeaderMap,
    code: Option<u32>,
) -> Submission {
    let verdict = outcomes::refusal(provider, status.as_u16(), code);
    match verdict.outcome {
        Outcome::Unknown => Submission::Unknown { reason: verdict.reason },
        // A limit's headers come with other refusals too, of which they say nothing.
        Outcome::Later => {
            let pause = pause(headers).or_else(|| verdict.code.is_none().then_some(UNSAID));
            Submission::NotAccepted(Refusal { verdict, pause })
        }
        _ => Submission::NotAccepted(Refusal { verdict, pause: None }),
    }
}

/// Success, but not a receipt: the message was taken, or perhaps something on the way answered.
pub(super) fn illegible() -> Submission {
    Submission::Unknown { reason: "El proveedor respondió algo que no se entiende.".to_owned() }
}

/// Asks a question that changes nothing, and reads the answer; none where there is nothing of that name.
pub(super) async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> Result<Option<T>, AskError> {
    // An error's own text has the URL, and with it the phone.
    let unavailable = |error: reqwest::Error| AskError::Unavailable(error.without_url().to_string());
    let response = request.timeout(ASK_TIMEOUT).send().await.map_err(unavailable)?;
    match response.status() {
        status if status.is_success() => response.json().await.map(Some).map_err(unavailable),
        StatusCode::NOT_FOUND => Ok(None),
        StatusCode::TOO_MANY_REQUESTS => {
            Err(AskError::Throttled(pause(response.headers()).unwrap_or(Duration::from_secs(1))))
        }
        status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
            Err(AskError::Denied(status.to_string()))
        }
        status => Err(AskError::Unavailable(status.to_string())),
    }
}

/// The client that messages are sent with. It never repeats a request on its own, follows no redirect, and speaks
/// HTTP/1.1: of a connection shared by many requests, each reset would make all of them unknown.
pub(super) fn http_client() -> reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        chassis::tls::install();
        reqwest::Client::builder()
            .retry(reqwest::retry::never())
            .http1_only()
            .connect_timeout(Duration::from_secs(3))
            .timeout(SEND_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("lote/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the client has a TLS provider, and no option that can fail")
    });
    CLIENT.clone()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderValue, RETRY_AFTER};

    use super::*;

    #[test]
    fn who_has_too_much_of_it_is_left_alone_though_it_does_not_say_how_long() {
        let pause_of = |code, headers: &HeaderMap| {
            let answer = refused(ProviderName::Telnyx, StatusCode::TOO_MANY_REQUESTS, headers, code);
            let Submission::NotAccepted(refusal) = &answer else { panic!("{answer:?}") };
            refusal.pause
        };
        let none = HeaderMap::new();
        let after = |seconds: &'static str| -> HeaderMap {
            [(RETRY_AFTER, HeaderValue::from_static(seconds))].into_iter().collect()
        };
        assert_eq!(pause_of(None, &none), Some(UNSAID));
        assert_eq!(pause_of(None, &after("60")), Some(Duration::from_secs(60)));
        assert_eq!(pause_of(None, &after("0")), Some(SHORTEST_PAUSE), "it would be asked without end");
        // The provider's own word: each time it is longer.
        assert_eq!(pause_of(Some(10_011), &none), None);
    }
}
