//! Telnyx's webhooks (developers.telnyx.com, "Receiving webhooks"): Ed25519 over time and raw body.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;

use super::{Callback, Inbound, Report, Status, Webhook, WebhookError, phone};
use crate::domain::money::Money;
use crate::domain::outcomes;
use crate::domain::report::provider_id;
use crate::domain::sender::ProviderName;

/// The headers that carry a signature.
pub const SIGNATURE: &str = "telnyx-signature-ed25519";
pub const TIMESTAMP: &str = "telnyx-timestamp";
/// How far its time may be from ours, in seconds.
const TOLERANCE: i64 = 300;

/// The key that Telnyx signs with, from its portal: 32 bytes in base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub fn parse(text: &str) -> Option<Self> {
        STANDARD.decode(text.trim()).ok()?.try_into().ok().map(Self)
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PublicKey({})", STANDARD.encode(self.0))
    }
}

/// Checks that Telnyx signed this body, and within five minutes of `now`.
///
/// # Errors
/// It didn't, or not now.
pub fn verify(
    key: PublicKey,
    signature: Option<&str>,
    timestamp: Option<&str>,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), WebhookError> {
    let (signature, timestamp) = signature.zip(timestamp).ok_or(WebhookError::Signature)?;
    let signature = STANDARD.decode(signature).map_err(|_| WebhookError::Signature)?;
    let seconds: i64 = timestamp.parse().map_err(|_| WebhookError::Signature)?;
    let signed = [timestamp.as_bytes(), b"|", body].concat();
    UnparsedPublicKey::new(&ED25519, key.0)
        .verify(&signed, &signature)
        .map_err(|_| WebhookError::Signature)?;
    if seconds.abs_diff(now.timestamp()) > TOLERANCE.unsigned_abs() {
        return Err(WebhookError::Time);
    }
    Ok(())
}

#[derive(Deserialize)]
struct Body {
    data: Event,
}

#[derive(Deserialize)]
struct Event {
    id: Option<String>,
    event_type: String,
    occurred_at: Option<DateTime<Utc>>,
    #[serde(default)]
    payload: serde_json::Value,
}

/// A message as Telnyx writes it, in webhooks and answers.
#[derive(Debug, Deserialize)]
pub struct Message {
    pub id: String,
    #[serde(default)]
    pub direction: String,
    #[serde(default, deserialize_with = "party")]
    pub from: Option<String>,
    #[serde(default)]
    pub to: Vec<Recipient>,
    pub text: Option<String>,
    pub webhook_url: Option<String>,
    pub parts: Option<u16>,
    pub cost: Option<Cost>,
    #[serde(default)]
    pub errors: Option<Vec<Error>>,
    pub received_at: Option<DateTime<Utc>>,
    pub sent_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
    pub wait_seconds: Option<f64>,
}

/// `to` is a list even of one.
#[derive(Debug, Deserialize)]
pub struct Recipient {
    pub phone_number: Option<String>,
    pub status: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Cost {
    pub amount: Option<String>,
    pub currency: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Error {
    pub code: Code,
}

/// A code is a string, and in some examples a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Code {
    Text(String),
    Number(u32),
}

impl Code {
    pub fn number(&self) -> Option<u32> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Number(number) => Some(*number),
        }
    }
}

/// `from` is an object in webhooks, and a string in some records.
fn party<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Party {
        Text(String),
        Object { phone_number: Option<String> },
    }
    Ok(match Option::<Party>::deserialize(deserializer)? {
        Some(Party::Text(text)) => Some(text),
        Some(Party::Object { phone_number }) => phone_number,
        None => None,
    })
}

impl Message {
    /// What it says of the message; none where its id is none.
    pub fn report(&self, at: Option<DateTime<Utc>>) -> Option<Report> {
        let status = self.to.first().and_then(|to| to.status.as_deref()).unwrap_or_default();
        let errors = self.errors.as_deref().unwrap_or_default();
        let code = errors.iter().find_map(|error| error.code.number());
        let (observed, verdict) = outcomes::report(ProviderName::Telnyx, status, code);
        let cost = self
            .cost
            .as_ref()
            .and_then(|Cost { amount, currency }| Money::parse(amount.as_deref()?, currency.as_deref()?));
        Some(Report {
            provider_id: provider_id(&self.id)?,
            observed,
            verdict,
            parts: self.parts.filter(|parts| *parts > 0),
            cost,
            at: at.or(self.completed_at).or(self.sent_at).or(self.received_at),
        })
    }
}

/// What a body says whose signature was verified.
///
/// # Errors
/// It is no event of Telnyx's.
pub fn parse(body: &[u8]) -> Result<Webhook, WebhookError> {
    let wrong = |error: serde_json::Error| WebhookError::Body(error.to_string());
    let Event { id, event_type, occurred_at, payload } =
        serde_json::from_slice::<Body>(body).map_err(wrong)?.data;
    if !matches!(event_type.as_str(), "message.sent" | "message.finalized" | "message.received") {
        return Ok(Webhook::Other(event_type));
    }
    let message: Message = serde_json::from_value(payload).map_err(wrong)?;
    let no_id = || WebhookError::Body("the message's id is not a UUID".to_owned());
    if event_type == "message.received" {
        return Ok(Webhook::Inbound(Inbound {
            provider_id: provider_id(&message.id).ok_or_else(no_id)?,
            from: message.from.as_deref().and_then(phone),
            to: message.to.into_iter().find_map(|to| to.phone_number).unwrap_or_default(),
            text: message.text.unwrap_or_default(),
            at: message.received_at.or(occurred_at),
        }));
    }
    Ok(Webhook::Status(Status {
        event_id: id,
        // The payload repeats it, so it is under the signature; the path of the request isn't.
        callback: message.webhook_url.as_deref().and_then(Callback::parse),
        to: message.to.iter().find_map(|to| to.phone_number.as_deref()).and_then(phone),
        report: message.report(occurred_at).ok_or_else(no_id)?,
    }))
}
