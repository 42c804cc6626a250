//! Reports and inbound messages on their way: signed as the vendor signs, at their time, repeated where they aren't taken.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{SecondsFormat, Utc};
use reqwest::Client;
use ring::{hmac, signature::Ed25519KeyPair};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::faults::Fate;
use super::state::Stage;
use super::truth::Accepted;
use super::{Shared, Vendor};

/// Webhooks at once.
const AT_ONCE: usize = 32;

/// Sends webhooks, so many at once.
pub(super) struct Dispatcher {
    http: Client,
    at_once: Semaphore,
}

impl Dispatcher {
    pub fn new() -> Result<Self> {
        // An Err means that there is one already.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder().retry(reqwest::retry::never()).timeout(Duration::from_secs(15)).build();
        Ok(Self { http: http.context("a client")?, at_once: Semaphore::new(AT_ONCE) })
    }
}

/// A webhook, before it is signed.
pub(super) enum Notice {
    Status(usize, Stage),
    Inbound { from: String, to: String, text: String, url: String, id: Uuid },
}

/// Sends the reports of a message, each at its time.
pub(super) fn report(shared: &Arc<Shared>, number: usize) {
    let reports = shared.state().reports(number);
    for (stage, after) in reports {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            deliver(&shared, Notice::Status(number, stage)).await;
        });
    }
}

/// Delivers one, as often as the vendor tries.
pub(super) async fn deliver(shared: &Shared, notice: Notice) {
    let Some((url, body)) = written(shared, &notice) else { return };
    if url.is_empty() {
        return;
    }
    let (times, patience, retries_refusals) = match &shared.vendor {
        // "up to 3 attempts per URL", and two seconds each.
        Vendor::Telnyx { .. } => (3, Duration::from_secs(2), true),
        Vendor::Twilio { .. } => {
            let fragment = url.split_once('#').map_or("", |(_, fragment)| fragment);
            let option =
                |name: &str| fragment.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            let retries = option("rc").and_then(|count| count.parse().ok()).unwrap_or(1_u32).min(5);
            (retries + 1, Duration::from_secs(15), option("rp") == Some("all"))
        }
    };
    let mut delivered = false;
    for attempt in 1..=times {
        // What people write waits behind no reports.
        let permit = match notice {
            Notice::Status(..) => Some(shared.webhooks.at_once.acquire().await),
            Notice::Inbound { .. } => None,
        };
        let request = shared.vendor.sign(&shared.webhooks.http, &url, &body, attempt);
        let answer = request.timeout(patience).send().await;
        drop(permit);
        delivered = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
        if delivered || (answer.is_ok() && !retries_refusals) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
    }
    let mut state = shared.state();
    if delivered {
        state.webhooks_delivered += 1;
    } else {
        state.webhooks_failed += 1;
    }
}

/// A form's fields, or a document.
pub(super) enum Body {
    Json(Value),
    Form(Vec<(&'static str, String)>),
}

fn written(shared: &Shared, notice: &Notice) -> Option<(String, Body)> {
    match (notice, &shared.vendor) {
        (Notice::Status(number, stage), vendor) => {
            let mut message = shared.state().read(*number)?;
            message.stage = Some(*stage);
            let url = message.callback_url.clone();
            let body = match vendor {
                Vendor::Telnyx { .. } => Body::Json(telnyx_status(&message, *stage)),
                Vendor::Twilio { account_sid, .. } => Body::Form(twilio_status(&message, account_sid)?),
            };
            Some((url, body))
        }
        (Notice::Inbound { from, to, text, url, id }, Vendor::Telnyx { .. }) => {
            let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
            let body = event(
                "message.received",
                json!({
                    "record_type": "message", "id": id, "direction": "inbound", "type": "SMS",
                    "messaging_profile_id": super::telnyx::PROFILE,
                    "from": { "phone_number": from, "carrier": "RADIOMOVIL DIPSA SA DE CV", "line_type": "Wireless" },
                    "to": [{ "phone_number": to, "status": "webhook_delivered", "carrier": "Telnyx", "line_type": "Wireless" }],
                    "cc": [], "text": text, "media": [], "encoding": "GSM-7", "parts": 1, "tags": [], "cost": null,
                    "errors": [], "received_at": now, "sent_at": null, "completed_at": null, "valid_until": null,
                    "webhook_url": url, "webhook_failover_url": null,
                }),
            );
            Some((url.clone(), Body::Json(body)))
        }
        (Notice::Inbound { from, to, text, url, id }, Vendor::Twilio { account_sid, .. }) => {
            let sid = format!("SM{}", id.simple());
            let body = vec![
                ("ToCountry", "MX".to_owned()),
                ("SmsMessageSid", sid.clone()),
                ("NumMedia", "0".to_owned()),
                ("SmsSid", sid.clone()),
                ("SmsStatus", "received".to_owned()),
                ("Body", text.clone()),
                ("FromCountry", "MX".to_owned()),
                ("To", to.clone()),
                ("NumSegments", "1".to_owned()),
                ("MessageSid", sid),
                ("AccountSid", account_sid.clone()),
                ("From", from.clone()),
                ("ApiVersion", "2010-04-01".to_owned()),
            ];
            Some((url.clone(), Body::Form(body)))
        }
    }
}

fn event(kind: &str, payload: Value) -> Value {
    json!({ "data": {
        "record_type": "event",
        "id": random_id(),
        "event_type": kind,
        "occurred_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        "payload": payload,
    } })
}

/// An id that no other event has.
fn random_id() -> Uuid {
    Uuid::new_v4()
}

fn telnyx_status(message: &Accepted, stage: Stage) -> Value {
    let kind = if stage == Stage::Final { "message.finalized" } else { "message.sent" };
    // The same event has the same id however often it is delivered.
    let mut event = event(kind, super::telnyx::message_json(message));
    let id = Uuid::from_u128(message.id.as_u128() ^ if stage == Stage::Final { 1 << 100 } else { 1 << 101 });
    event["data"]["id"] = json!(id);
    event
}

fn twilio_status(message: &Accepted, account_sid: &str) -> Option<Vec<(&'static str, String)>> {
    let (status, code) = super::twilio::status(message);
    // The carrier that never says what became of it makes no callback.
    if message.stage == Some(Stage::Final) && message.fate == Fate::Unconfirmed {
        return None;
    }
    let sid = super::twilio::sid(message.id);
    let mut form = vec![
        ("SmsSid", sid.clone()),
        ("SmsStatus", status.to_owned()),
        ("MessageStatus", status.to_owned()),
        ("To", message.to.clone()),
        ("MessageSid", sid),
        ("AccountSid", account_sid.to_owned()),
        ("From", message.from.clone()),
        ("ApiVersion", "2010-04-01".to_owned()),
    ];
    if let Some(code) = code {
        form.push(("ErrorCode", code.to_string()));
    }
    Some(form)
}

impl Vendor {
    fn sign(&self, http: &Client, url: &str, body: &Body, attempt: u32) -> reqwest::RequestBuilder {
        match (self, body) {
            (Self::Telnyx { key_pair, .. }, Body::Json(body)) => {
                let mut body = body.clone();
                body["meta"] = json!({ "attempt": attempt, "delivered_to": url });
                let (body, timestamp) = (body.to_string(), Utc::now().timestamp().to_string());
                let signature = telnyx_signature(key_pair, &timestamp, &body);
                http.post(url)
                    .header("content-type", "application/json")
                    .header("telnyx-signature-ed25519", signature)
                    .header("telnyx-timestamp", timestamp)
                    .body(body)
            }
            (Self::Twilio { auth_token, .. }, Body::Form(form)) => {
                // A fragment is an order to Twilio, and is not sent.
                let url = url.split('#').next().unwrap_or(url);
                http.post(url)
                    .header("x-twilio-signature", twilio_signature(auth_token, url, form))
                    .header("i-twilio-idempotency-token", random_id().to_string())
                    .form(form)
            }
            // A vendor's notices are written in its own form.
            _ => http.post(url),
        }
    }
}

/// The two headers that the simulator of Telnyx signs a body with, for who sends webhooks in its place.
///
/// # Errors
/// Never in practice: the key is one of this crate's.
pub fn telnyx_headers(body: &str) -> Result<[(&'static str, String); 2]> {
    let timestamp = Utc::now().timestamp().to_string();
    let signature = telnyx_signature(&key_pair()?, &timestamp, body);
    Ok([("telnyx-signature-ed25519", signature), ("telnyx-timestamp", timestamp)])
}

/// What webhooks of Telnyx are signed with.
pub(super) fn key_pair() -> Result<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(&[42; 32]).ok().context("a key of 32 bytes")
}

fn telnyx_signature(key_pair: &Ed25519KeyPair, timestamp: &str, body: &str) -> String {
    STANDARD.encode(key_pair.sign(format!("{timestamp}|{body}").as_bytes()))
}

fn twilio_signature(auth_token: &str, url: &str, form: &[(&str, String)]) -> String {
    let mut sorted: Vec<_> = form.iter().collect();
    sorted.sort();
    let signed: String =
        sorted.into_iter().fold(url.to_owned(), |signed, (name, value)| signed + name + value);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.as_bytes());
    STANDARD.encode(hmac::sign(&key, signed.as_bytes()))
}
