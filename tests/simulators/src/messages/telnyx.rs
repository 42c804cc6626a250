//! Telnyx's messages API: <https://developers.telnyx.com/api-reference/messages/send-a-message>, detail records, balance,
//! opt-outs; and the number look-ups of [`crate::telnyx`].

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::faults::Fate;
use super::parts::{self, Coding, Set};
use super::state::{PART_MICROS, Refused, Stage, Wanted, digits};
use super::truth::Accepted;
use super::{Answered, Shared, Vendor, submit};

/// The account's messaging profile.
pub const PROFILE: &str = "40017a2b-0000-4000-8000-00000000abcd";
/// What the profile's pool chooses.
const POOL: &str = "+525550009999";

#[derive(Deserialize)]
struct Submitted {
    to: Option<String>,
    from: Option<String>,
    messaging_profile_id: Option<String>,
    text: Option<String>,
    #[serde(default = "automatic")]
    encoding: String,
    webhook_url: Option<String>,
}

fn automatic() -> String {
    "auto".to_owned()
}

pub(super) fn refusal(status: u16, code: u32, title: &str, detail: &str) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    crate::telnyx::refusal(status, &code.to_string(), title, detail)
}

fn stranger(request: &HttpRequest, shared: &Shared) -> Option<HttpResponse> {
    let Vendor::Telnyx { key, .. } = &shared.vendor else { return None };
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let known = authorization.and_then(|value| value.strip_prefix("Bearer ")) == Some(key);
    (!known).then(|| {
        refusal(
            401,
            10009,
            "Authentication failed",
            "The required authentication headers were either invalid or not included in the request.",
        )
    })
}

pub(super) async fn send(request: HttpRequest, body: web::Bytes, shared: web::Data<Shared>) -> HttpResponse {
    if let Some(refusal) = stranger(&request, &shared) {
        return refusal;
    }
    let wanted = match serde_json::from_slice::<Submitted>(&body) {
        Ok(wanted) => wanted,
        Err(error) => return refusal(400, 10015, "Bad Request", &error.to_string()),
    };
    let Some(to) = wanted.to else { return refusal(400, 10004, "Missing required parameter", "to") };
    let Some(phone) = digits(&to) else {
        return refusal(400, 40310, "Invalid 'to' address", "The 'to' address should be in E.164 format.");
    };
    let text = wanted.text.unwrap_or_default();
    if text.is_empty() {
        return refusal(400, 40316, "No content provided", "The message has no content.");
    }
    let profile = wanted.messaging_profile_id.as_deref();
    let short = wanted
        .from
        .as_deref()
        .is_some_and(|from| (3..=8).contains(&from.len()) && from.bytes().all(|byte| byte.is_ascii_digit()));
    let from = match (wanted.from.as_deref(), profile) {
        (None, Some(_)) => POOL,
        (Some(from), _) if digits(from).is_some() || short => from,
        (Some(from), Some(_)) if is_alphanumeric(from) => from,
        _ => return refusal(400, 40305, "Invalid 'from' address", "The 'from' address is not usable."),
    };
    let set = if short { Set::Ascii } else { Set::Narrow };
    let coding = match wanted.encoding.as_str() {
        "gsm7" if !parts::fits(set, &text) => {
            return refusal(
                400,
                10015,
                "Bad Request",
                "The text contains characters that cannot be encoded in GSM-7.",
            );
        }
        "gsm7" => Coding::Seven,
        "ucs2" => Coding::Sixteen,
        "auto" if parts::fits(set, &text) => Coding::Seven,
        "auto" => Coding::Sixteen,
        other => return refusal(422, 10027, "Unprocessable entity", &format!("encoding: {other}")),
    };
    let parts = parts::parts(set, coding, &text);
    let Some(parts) = u8::try_from(parts).ok().filter(|parts| *parts <= 10) else {
        return refusal(400, 40302, "Message too large", "The message has more than 10 parts.");
    };
    let url = wanted.webhook_url.unwrap_or_default();
    if !url.is_empty() && !is_url(&url) {
        return refusal(422, 10003, "Invalid URL", "The URL provided was invalid, malformed, or too long.");
    }
    let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
    let wanted = Wanted {
        to: phone,
        from,
        service: profile.unwrap_or(PROFILE),
        url: &url,
        text: &text,
        parts,
        coding,
        repetition: key.map(|key| (key, body.as_ref())),
    };
    submit(&request, &shared, &wanted, &Telnyx).await
}

fn is_alphanumeric(from: &str) -> bool {
    let letters = from.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ');
    (1..=11).contains(&from.len()) && letters && from.bytes().any(|byte| byte.is_ascii_alphabetic())
}

pub(super) fn is_url(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Telnyx's words.
pub(super) struct Telnyx;

impl Answered for Telnyx {
    const LANDLINES_REFUSED: bool = false;

    fn receipt(&self, message: &Accepted) -> HttpResponse {
        let mut message = message.clone();
        message.stage = Some(Stage::Queued);
        let mut json = message_json(&message);
        json["wait_seconds"] = json!(0.0);
        HttpResponse::Ok().json(json!({ "data": json }))
    }

    fn refusal(&self, refused: Refused) -> HttpResponse {
        match refused {
            Refused::Throttled => {
                let mut response = refusal(
                    429,
                    10011,
                    "Too many requests",
                    "You have exceeded the maximum number of allowed requests.",
                );
                let headers = response.headers_mut();
                for (name, value) in [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")] {
                    let name = actix_web::http::header::HeaderName::from_static(name);
                    headers.insert(name, actix_web::http::header::HeaderValue::from_static(value));
                }
                response
            }
            Refused::NoCredit => refusal(
                402,
                20100,
                "Insufficient Funds",
                "You have insufficient funds to perform this action.",
            ),
            Refused::SpendLimit => refusal(
                429,
                40333,
                "Messaging profile spend limit reached",
                "The daily spend limit configured on this messaging profile has been reached",
            ),
            Refused::QueueFull => {
                refusal(400, 40318, "Message queue full", "The sending queue of the 'from' address is full.")
            }
            Refused::BadSender => {
                refusal(400, 40305, "Invalid 'from' address", "The 'from' address is not usable.")
            }
            Refused::Landline => {
                refusal(400, 40001, "Not routable", "The destination is a landline or non-routable number.")
            }
            Refused::Invalid => {
                refusal(400, 40310, "Invalid 'to' address", "The 'to' address is not a valid number.")
            }
            Refused::OptedOut => refusal(
                400,
                40300,
                "Blocked due to STOP message",
                "Messages cannot be sent from this address to this recipient.",
            ),
            Refused::OtherBody => refusal(
                422,
                10027,
                "Unprocessable entity",
                "The Idempotency-Key was used with another request.",
            ),
        }
    }

    fn ordered(&self, status: u16, code: u32) -> HttpResponse {
        refusal(status, code, "Ordered", "A test wants it so.")
    }
}

fn time(time: Option<DateTime<Utc>>) -> Value {
    time.map_or(Value::Null, |time| json!(time.to_rfc3339_opts(SecondsFormat::Millis, true)))
}

/// A status and an error's code of `to[].status`.
fn status(message: &Accepted) -> (&'static str, Option<u32>) {
    match (message.stage, message.fate) {
        (Some(Stage::Queued) | None, _) => ("queued", None),
        (Some(Stage::Sent), _) => ("sent", None),
        (_, Fate::Landline) => ("delivery_failed", Some(40001)),
        (_, Fate::Undeliverable) => ("delivery_failed", Some(40008)),
        (_, Fate::Expired) => ("sending_failed", Some(40014)),
        (_, Fate::Unconfirmed) => ("delivery_unconfirmed", None),
        _ => ("delivered", None),
    }
}

fn cost(message: &Accepted) -> String {
    format!("{:.4}", f64::from(message.parts) * PART_MICROS as f64 / 1_000_000.0)
}

/// A message as answers and webhooks have it.
pub(super) fn message_json(message: &Accepted) -> Value {
    let (status, code) = status(message);
    let errors: Vec<Value> = code
        .into_iter()
        .map(|code| json!({ "code": code.to_string(), "title": "Failed", "detail": "It was not delivered." }))
        .collect();
    json!({
        "record_type": "message", "direction": "outbound", "id": message.id, "type": "SMS",
        "messaging_profile_id": message.service,
        "from": { "phone_number": message.from, "carrier": "Telnyx", "line_type": "Wireless" },
        "to": [{ "phone_number": message.to, "status": status, "carrier": "RADIOMOVIL DIPSA SA DE CV", "line_type": "Wireless" }],
        "cc": [], "text": message.text, "media": [], "webhook_url": message.callback_url, "webhook_failover_url": null,
        "encoding": if message.ucs2 { "UCS-2" } else { "GSM-7" }, "parts": message.parts, "tags": [],
        "cost": { "amount": cost(message), "currency": "USD" },
        "received_at": time(Some(message.at)), "sent_at": time(message.sent_at),
        "completed_at": time(message.final_at), "valid_until": time(Some(message.at + chrono::TimeDelta::hours(1))),
        "errors": errors,
    })
}

pub(super) async fn one(
    request: HttpRequest,
    id: web::Path<String>,
    shared: web::Data<Shared>,
) -> HttpResponse {
    if let Some(refusal) = stranger(&request, &shared) {
        return refusal;
    }
    let found = Uuid::try_parse(&id).ok().and_then(|id| shared.state().find(id));
    match found {
        Some(message) => HttpResponse::Ok().json(json!({ "data": message_json(&message) })),
        None => {
            refusal(404, 10005, "Resource not found", "The requested resource or URL could not be found.")
        }
    }
}

type Query = web::Query<HashMap<String, String>>;

/// Final messages only: what is queued has no record yet.
pub(super) async fn records(request: HttpRequest, query: Query, shared: web::Data<Shared>) -> HttpResponse {
    if let Some(refusal) = stranger(&request, &shared) {
        return refusal;
    }
    if query.get("filter[record_type]").map(String::as_str) != Some("messaging") {
        return refusal(400, 10004, "Missing required parameter", "filter[record_type]");
    }
    let known = [
        "filter[record_type]",
        "filter[cld]",
        "filter[created_at][gte]",
        "filter[created_at][lte]",
        "page[size]",
        "page[number]",
        "sort",
    ];
    if let Some(unknown) = query.keys().find(|key| !known.contains(&key.as_str())) {
        return refusal(400, 10015, "Bad Request", &format!("unknown filter: {unknown}"));
    }
    let moment = |name: &str| query.get(name).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let (from, until) = (moment("filter[created_at][gte]"), moment("filter[created_at][lte]"));
    let phone = query.get("filter[cld]").map(|phone| digits(phone).unwrap_or_default());
    let found: Vec<Accepted> = {
        let state = shared.state();
        let all = state.to(phone).filter_map(|number| state.read(number));
        let final_ones = all.filter(|message| message.stage == Some(Stage::Final));
        let in_time = final_ones.filter(|message| {
            from.is_none_or(|from| message.at >= from) && until.is_none_or(|until| message.at <= until)
        });
        in_time.collect()
    };
    let records = page(&query, &found, |message| {
        let (status, code) = status(message);
        let status = match status {
            "delivered" => "delivered",
            "delivery_unconfirmed" => "dlr_unconfirmed",
            _ => "failed",
        };
        json!({
            "record_type": "message_detail_record", "uuid": message.id, "cld": message.to, "cli": message.from,
            "status": status, "direction": "outbound", "message_type": "SMS", "parts": message.parts,
            "cost": cost(message), "currency": "USD", "rate": "0.0051", "country_code": "MX",
            "errors": code.map(|code| vec![code.to_string()]).unwrap_or_default(), "tags": "",
            "created_at": time(Some(message.at)), "updated_at": time(message.final_at),
            "sent_at": time(message.sent_at), "completed_at": time(message.final_at),
            "delivery_status_webhook_url": message.callback_url, "delivery_status_failover_url": "",
            "delivery_status": "", "profile_id": message.service, "profile_name": "Lote", "fteu": false,
        })
    });
    HttpResponse::Ok().json(records)
}

fn page<T>(query: &HashMap<String, String>, found: &[T], write: impl Fn(&T) -> Value) -> Value {
    let number =
        |name: &str, default: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let size = number("page[size]", 20).clamp(1, 250);
    let page = number("page[number]", 1).max(1);
    let data: Vec<Value> = found.iter().skip((page - 1) * size).take(size).map(write).collect();
    json!({ "data": data, "meta": {
        "page_number": page, "page_size": size, "total_results": found.len(),
        "total_pages": found.len().div_ceil(size).max(1),
    } })
}

pub(super) async fn balance(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    if let Some(refusal) = stranger(&request, &shared) {
        return refusal;
    }
    let micros = shared.state().faults.credit_micros.unwrap_or(1_000_000_000);
    let credit = format!("{:.2}", micros as f64 / 1_000_000.0);
    HttpResponse::Ok().json(json!({ "data": {
        "record_type": "balance", "balance": credit, "credit_limit": "0.00", "available_credit": credit,
        "currency": "USD", "pending": "0.00",
    } }))
}

pub(super) async fn opt_outs(request: HttpRequest, query: Query, shared: web::Data<Shared>) -> HttpResponse {
    if let Some(refusal) = stranger(&request, &shared) {
        return refusal;
    }
    let since = query.get("created_at[gte]").and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let found: Vec<_> = shared
        .state()
        .opt_outs
        .iter()
        .filter(|(_, _, _, at)| since.is_none_or(|since| *at >= since))
        .cloned()
        .collect();
    let page = page(&query, &found, |(phone, sender, word, at)| {
        json!({
            "to": format!("+{phone}"), "from": sender, "keyword": word, "messaging_profile_id": PROFILE,
            "created_at": time(Some(*at)),
        })
    });
    HttpResponse::Ok().json(page)
}
