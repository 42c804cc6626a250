//! Telnyx: number look-ups (<https://developers.telnyx.com/api-reference/number-lookup/lookup-phone-number-data>).

use std::time::Duration;

use chassis::config::Secret;
use reqwest::{Response, StatusCode, header::HeaderMap};
use serde::Deserialize;

use crate::domain::{Phone, lookup::Lookup};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest pause that is taken from a header.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Characters of an operator's or a line type's name that are kept.
const LONGEST_NAME: usize = 200;

/// Where Telnyx is, and in whose name it is asked.
#[derive(Clone, Debug)]
pub struct TelnyxSettings {
    /// `https://api.telnyx.com/v2`, or a simulator.
    pub url: String,
    pub key: Secret<String>,
}

/// A client of Telnyx.
#[derive(Clone, Debug)]
pub struct Telnyx {
    http: reqwest::Client,
    settings: TelnyxSettings,
}

/// Why there is no answer about a number.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There will be none about this one.
    #[error("{0}")]
    Refused(String),
    /// Too many requests; after this pause there may be one.
    #[error("Telnyx wants a pause of {0:?}")]
    Throttled(Duration),
    /// There is none about this number, or none for us: 403 and 404 don't say which. One number's is its own; where all
    /// numbers have it, it is ours.
    #[error("Telnyx refuses us: {0}")]
    Closed(String),
    /// There will be none for us, whatever the number: the credential, the account, the address.
    #[error("Telnyx refuses us: {0}")]
    Denied(String),
    /// Not now: there is no connection, or it says that it can't serve. Nothing was looked up.
    #[error("Telnyx can't be asked: {0}")]
    Unavailable(String),
    /// The answer did not come, or not whole, or an error came in its place from behind the look-up: it may have been billed.
    #[error("Telnyx's answer was lost: {0}")]
    Lost(String),
}

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    valid_number: Option<bool>,
    carrier: Option<Carrier>,
}

#[derive(Deserialize)]
struct Carrier {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Error>,
}

#[derive(Deserialize)]
struct Error {
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

impl Telnyx {
    /// A client; it connects when it is asked something.
    pub fn new(settings: TelnyxSettings) -> Self {
        Self { http: chassis::http_client(), settings }
    }

    /// Asks about one number: `GET /number_lookup/{phone}?type=carrier`.
    ///
    /// # Errors
    /// As [`LookupError`] says.
    pub async fn look_up(&self, phone: Phone) -> Result<Lookup, LookupError> {
        let base = self.settings.url.trim_end_matches('/');
        // The plus is part of the path, as it is.
        let request = self
            .http
            .get(format!("{base}/number_lookup/{phone}?type=carrier"))
            .bearer_auth(self.settings.key.expose())
            .timeout(PATIENCE);
        // An error's own text has the URL, and with it the phone.
        let lost = |error: reqwest::Error| LookupError::Lost(error.without_url().to_string());
        let response = request.send().await.map_err(|error| match error.is_connect() {
            true => LookupError::Unavailable(error.without_url().to_string()),
            false => lost(error),
        })?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let Data { valid_number, carrier } = response.json::<Body>().await.map_err(lost)?.data;
        let (operator, line_type) = carrier.map_or((None, None), |carrier| (carrier.name, carrier.kind));
        Ok(Lookup {
            valid: valid_number,
            operator: operator.and_then(kept),
            line_type: line_type.and_then(kept),
        })
    }
}

/// A name as a table can hold it; none where nothing is left.
fn kept(name: String) -> Option<String> {
    let name: String = name.trim().chars().filter(|letter| !letter.is_control()).take(LONGEST_NAME).collect();
    (!name.is_empty()).then_some(name)
}

async fn refusal(response: Response) -> LookupError {
    let (status, pause) = (response.status(), pause(response.headers()));
    let said = match response.json::<Errors>().await {
        Ok(Errors { errors }) => errors.first().map_or_else(
            || status.to_string(),
            |Error { code, title, detail }| format!("{status}, {code} {title}: {detail}"),
        ),
        Err(_) => status.to_string(),
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS => LookupError::Throttled(pause),
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => LookupError::Refused(said),
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => LookupError::Closed(said),
        // Turned away before anything was done.
        StatusCode::SERVICE_UNAVAILABLE => LookupError::Unavailable(said),
        // 500, 502 and 504 say that something went wrong, not that it went wrong before the look-up was billed.
        StatusCode::REQUEST_TIMEOUT => LookupError::Lost(said),
        _ if status.is_server_error() => LookupError::Lost(said),
        _ => LookupError::Denied(said),
    }
}

/// How long to wait, by the headers of an answer.
fn pause(headers: &HeaderMap) -> Duration {
    let seconds = ["retry-after", "x-ratelimit-reset"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok()?.trim().parse::<u64>().ok());
    Duration::from_secs(seconds.unwrap_or(1)).clamp(Duration::from_millis(100), LONGEST_PAUSE)
}
