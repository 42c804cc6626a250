//! Twilio's webhooks (twilio.com/docs, "Webhooks security"): HMAC-SHA1 over the address and the form's sorted fields.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use ring::hmac;
use url::Url;

use super::{Callback, Inbound, Report, Status, Webhook, WebhookError, phone};
use crate::domain::outcomes;
use crate::domain::report::provider_id;
use crate::domain::sender::ProviderName;

/// The header that carries the signature.
pub const SIGNATURE: &str = "x-twilio-signature";

/// A form's fields. Twilio never repeats one.
pub type Form = BTreeMap<String, String>;

/// The fields of a form's raw body.
pub fn form(body: &[u8]) -> Form {
    url::form_urlencoded::parse(body).into_owned().collect()
}

/// Checks that Twilio signed this form for this address: the one that it was given, without a fragment, which is our public
/// address with the request's path and query. There is no time in the signature; a repeated webhook changes nothing.
///
/// # Errors
/// It didn't.
pub fn verify(auth_token: &str, signature: Option<&str>, url: &str, body: &[u8]) -> Result<(), WebhookError> {
    let signature = signature.and_then(|text| STANDARD.decode(text).ok()).ok_or(WebhookError::Signature)?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.as_bytes());
    let fields: String = form(body).into_iter().flat_map(|(name, value)| [name, value]).collect();
    let url = url.split('#').next().unwrap_or(url);
    // Twilio signs with or without the port, and says itself that it isn't consistent: its SDKs try both.
    let signed = [Some(url.to_owned()), with_port(url), without_port(url)];
    let mut signed = signed.into_iter().flatten().map(|url| url + &fields);
    match signed.any(|signed| hmac::verify(&key, signed.as_bytes(), &signature).is_ok()) {
        true => Ok(()),
        false => Err(WebhookError::Signature),
    }
}

/// The address with its port written out. The text is changed by hand: a parser would write the rest in its own way.
fn with_port(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let port = parsed.port_or_known_default()?;
    let written = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    (!written).then(|| format!("{scheme}://{authority}:{port}{path}"))
}

fn without_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = authority.rsplit_once(':')?;
    port.parse::<u16>().is_ok().then(|| format!("{scheme}://{host}{path}"))
}

/// What a form says whose signature was verified for this address.
///
/// # Errors
/// It is no webhook of Twilio's messages.
pub fn parse(url: &str, body: &[u8], now: DateTime<Utc>) -> Result<Webhook, WebhookError> {
    let form = form(body);
    let field = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let sid = field("MessageSid").or_else(|| field("SmsSid"));
    let no_id = || WebhookError::Body("MessageSid is not the id of a message".to_owned());
    let provider_id = sid.and_then(provider_id);
    match field("MessageStatus").or_else(|| field("SmsStatus")) {
        Some("received" | "receiving") => Ok(Webhook::Inbound(Inbound {
            provider_id: provider_id.ok_or_else(no_id)?,
            from: field("From").and_then(phone),
            to: field("To").unwrap_or_default().to_owned(),
            text: form.get("Body").cloned().unwrap_or_default(),
            at: Some(now),
        })),
        Some(status) => {
            let code = field("ErrorCode").and_then(|code| code.parse().ok());
            let (observed, verdict) = outcomes::report(ProviderName::Twilio, status, code);
            Ok(Webhook::Status(Status {
                // Twilio doesn't number its callbacks, and each status comes once.
                event_id: None,
                callback: Callback::parse(url),
                to: field("To").and_then(phone),
                report: Report {
                    provider_id: provider_id.ok_or_else(no_id)?,
                    observed,
                    verdict,
                    parts: None,
                    cost: None,
                    at: None,
                },
            }))
        }
        None if form.is_empty() => Err(WebhookError::Body("an empty form".to_owned())),
        None => Ok(Webhook::Other(field("EventType").unwrap_or("unknown").to_owned())),
    }
}
