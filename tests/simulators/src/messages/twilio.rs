//! Twilio's messages API: <https://www.twilio.com/docs/messaging/api/message-resource>, and its balance.

use std::collections::HashMap;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::faults::Fate;
use super::parts::{self, Coding, Set};
use super::state::{PART_MICROS, Refused, Stage, Wanted, digits};
use super::telnyx::is_url;
use super::truth::Accepted;
use super::{Answered, Shared, Vendor, submit};

/// What a messaging service chooses.
const POOL: &str = "+525550008888";

pub(super) fn refusal(status: u16, code: u32, message: &str) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)).json(json!({
        "code": code, "message": message, "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": status,
    }))
}

fn stranger(request: &HttpRequest, account: &str, shared: &Shared) -> Option<HttpResponse> {
    let Vendor::Twilio { account_sid, auth_token } = &shared.vendor else { return None };
    let expected = format!("Basic {}", STANDARD.encode(format!("{account_sid}:{auth_token}")));
    let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if given != Some(expected.as_str()) {
        return Some(refusal(401, 20003, "Authenticate"));
    }
    let found = account == account_sid;
    (!found).then(|| refusal(404, 20404, "The requested resource was not found"))
}

pub(super) async fn send(
    request: HttpRequest,
    account: web::Path<String>,
    body: web::Bytes,
    shared: web::Data<Shared>,
) -> HttpResponse {
    if let Some(refusal) = stranger(&request, &account, &shared) {
        return refusal;
    }
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let Some(to) = field("To") else { return refusal(400, 21604, "A 'To' phone number is required.") };
    let Some(phone) = digits(to) else { return refusal(400, 21211, "Invalid 'To' Phone Number") };
    let service = field("MessagingServiceSid");
    if service.is_some_and(|service| !service.starts_with("MG") || service.len() != 34) {
        return refusal(400, 21705, "The Messaging Service Sid is invalid");
    }
    let from = match (field("From"), service) {
        (Some(from), _) if is_sender(from) => from,
        (None, Some(_)) => POOL,
        (Some(_), _) => return refusal(400, 21212, "Invalid From Number (caller ID)"),
        (None, None) => return refusal(400, 21603, "A 'From' phone number is required."),
    };
    let Some(text) = field("Body") else { return refusal(400, 21602, "Message body is required.") };
    if text.chars().count() > 1_600 {
        return refusal(400, 21617, "The concatenated message body exceeds the 1600 character limit");
    }
    let url = field("StatusCallback").unwrap_or_default();
    if !url.is_empty() && !is_url(url) {
        return refusal(400, 21609, "Invalid 'StatusCallback' URL");
    }
    let validity = field("ValidityPeriod").map_or(Ok(36_000), str::parse::<u32>);
    if !validity.is_ok_and(|seconds| (1..=36_000).contains(&seconds)) {
        return refusal(400, 20001, "ValidityPeriod is out of range");
    }
    let coding = if parts::fits(Set::Standard, text) { Coding::Seven } else { Coding::Sixteen };
    let parts = u8::try_from(parts::parts(Set::Standard, coding, text)).unwrap_or(u8::MAX);
    let wanted = Wanted {
        to: phone,
        from,
        service: service.unwrap_or_default(),
        url,
        text,
        parts,
        coding,
        repetition: None,
    };
    submit(&request, &shared, &wanted, &Twilio { account: &account }).await
}

/// A number, a short code, or a name with a letter in it.
fn is_sender(from: &str) -> bool {
    let short = (3..=8).contains(&from.len()) && from.bytes().all(|byte| byte.is_ascii_digit());
    let letters = from.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ');
    let name =
        (1..=11).contains(&from.len()) && letters && from.bytes().any(|byte| byte.is_ascii_alphabetic());
    digits(from).is_some() || short || name
}

/// Twilio's words.
pub(super) struct Twilio<'a> {
    account: &'a str,
}

impl Answered for Twilio<'_> {
    const LANDLINES_REFUSED: bool = true;

    fn receipt(&self, message: &Accepted) -> HttpResponse {
        let mut message = message.clone();
        message.stage = Some(Stage::Queued);
        HttpResponse::Created().json(message_json(&message, self.account))
    }

    fn refusal(&self, refused: Refused) -> HttpResponse {
        match refused {
            Refused::Throttled => refusal(429, 20429, "Too Many Requests"),
            Refused::NoCredit => refusal(403, 20005, "Account not active"),
            Refused::SpendLimit => refusal(429, 63038, "Account exceeded the daily messages limit"),
            Refused::QueueFull => {
                refusal(429, 21611, "This 'From' number has exceeded the maximum number of queued messages")
            }
            Refused::BadSender => refusal(
                400,
                21606,
                "The 'From' phone number provided is not a valid message-capable Twilio phone number",
            ),
            Refused::Landline => refusal(400, 21614, "'To' number is not a valid mobile number"),
            Refused::Invalid => refusal(400, 21211, "Invalid 'To' Phone Number"),
            Refused::OptedOut => refusal(400, 21610, "Attempt to send to unsubscribed recipient"),
            Refused::OtherBody => refusal(400, 20001, "Bad Request"),
        }
    }

    fn ordered(&self, status: u16, code: u32) -> HttpResponse {
        refusal(status, code, "A test wants it so.")
    }
}

pub(super) fn sid(id: Uuid) -> String {
    format!("SM{}", id.simple())
}

/// A status, and an error's code.
pub(super) fn status(message: &Accepted) -> (&'static str, Option<u32>) {
    match (message.stage, message.fate) {
        (Some(Stage::Queued) | None, _) if message.service.is_empty() => ("queued", None),
        (Some(Stage::Queued) | None, _) => ("accepted", None),
        (Some(Stage::Sent), _) | (_, Fate::Unconfirmed) => ("sent", None),
        (_, Fate::Landline) => ("undelivered", Some(30006)),
        (_, Fate::Undeliverable) => ("undelivered", Some(30003)),
        (_, Fate::Expired) => ("failed", Some(30036)),
        _ => ("delivered", None),
    }
}

fn time(time: Option<DateTime<Utc>>) -> Value {
    time.map_or(Value::Null, |time| json!(time.to_rfc2822()))
}

/// A message as answers and lists have it.
fn message_json(message: &Accepted, account: &str) -> Value {
    let (status, code) = status(message);
    let sid = sid(message.id);
    // The price comes later, and a service's message has no sender, and so no parts, at first.
    let queued = matches!(message.stage, Some(Stage::Queued) | None);
    let unassigned = queued && !message.service.is_empty();
    let price =
        message.final_at.map(|_| format!("-{:.5}", f64::from(message.parts) * PART_MICROS as f64 / 1e6));
    json!({
        "sid": sid, "account_sid": account, "api_version": "2010-04-01", "direction": "outbound-api",
        "to": message.to, "from": if unassigned { None } else { Some(&message.from) }, "body": message.text,
        "status": status, "num_segments": if unassigned { "0".to_owned() } else { message.parts.to_string() },
        "num_media": "0", "error_code": code, "error_message": code.map(|_| "It was not delivered."),
        "messaging_service_sid": Some(&message.service).filter(|service| !service.is_empty()),
        "price": price, "price_unit": "USD", "date_created": time(Some(message.at)),
        "date_updated": time(message.final_at.or(message.sent_at).or(Some(message.at))), "date_sent": time(message.sent_at),
        "uri": format!("/2010-04-01/Accounts/{account}/Messages/{sid}.json"),
        "subresource_uris": { "media": format!("/2010-04-01/Accounts/{account}/Messages/{sid}/Media.json") },
    })
}

pub(super) async fn one(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let (account, sid) = path.into_inner();
    if let Some(refusal) = stranger(&request, &account, &shared) {
        return refusal;
    }
    let id = sid.strip_prefix("SM").and_then(|id| Uuid::try_parse(id).ok());
    match id.and_then(|id| shared.state().find(id)) {
        Some(message) => HttpResponse::Ok().json(message_json(&message, &account)),
        None => refusal(404, 20404, "The requested resource was not found"),
    }
}

/// Newest first; filters by date leave out what was not sent yet.
pub(super) async fn list(
    request: HttpRequest,
    account: web::Path<String>,
    query: web::Query<HashMap<String, String>>,
    shared: web::Data<Shared>,
) -> HttpResponse {
    if let Some(refusal) = stranger(&request, &account, &shared) {
        return refusal;
    }
    let phone = query.get("To").map(|phone| digits(phone).unwrap_or_default());
    let day = |name: &str| {
        query.get(name).and_then(|day| NaiveDate::parse_from_str(day.get(..10)?, "%Y-%m-%d").ok())
    };
    let (on, from, until) = (day("DateSent"), day("DateSent>"), day("DateSent<"));
    let number =
        |name: &str, default: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (size, page) = (number("PageSize", 50).clamp(1, 1_000), number("Page", 0));
    let found: Vec<Value> = {
        let state = shared.state();
        let all = state.to(phone).filter_map(|number| state.read(number));
        let wanted = all.filter(|message| {
            let sent = message.sent_at.map(|at| at.date_naive());
            query.get("From").is_none_or(|from| *from == message.from)
                && on.is_none_or(|on| sent == Some(on))
                && from.is_none_or(|from| sent.is_some_and(|sent| sent >= from))
                && until.is_none_or(|until| sent.is_some_and(|sent| sent <= until))
        });
        wanted.skip(page * size).take(size + 1).map(|message| message_json(&message, &account)).collect()
    };
    let path = format!("/2010-04-01/Accounts/{account}/Messages.json");
    let address = |page: usize| {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in
            query.iter().filter(|(name, _)| !matches!(name.as_str(), "Page" | "PageSize" | "PageToken"))
        {
            pairs.append_pair(name, value);
        }
        let pairs =
            pairs.append_pair("PageSize", &size.to_string()).append_pair("Page", &page.to_string()).finish();
        format!("{path}?{pairs}")
    };
    let more = found.len() > size;
    let messages: Vec<Value> = found.into_iter().take(size).collect();
    HttpResponse::Ok().json(json!({
        "start": page * size, "end": (page * size + messages.len()).saturating_sub(1), "page": page, "page_size": size,
        "messages": messages, "uri": address(page), "first_page_uri": address(0),
        "previous_page_uri": page.checked_sub(1).map(address), "next_page_uri": more.then(|| address(page + 1)),
    }))
}

pub(super) async fn balance(
    request: HttpRequest,
    account: web::Path<String>,
    shared: web::Data<Shared>,
) -> HttpResponse {
    if let Some(refusal) = stranger(&request, &account, &shared) {
        return refusal;
    }
    let micros = shared.state().faults.credit_micros.unwrap_or(1_000_000_000);
    let balance = format!("{:.2}", micros as f64 / 1_000_000.0);
    HttpResponse::Ok().json(json!({ "account_sid": account.as_str(), "balance": balance, "currency": "USD" }))
}
