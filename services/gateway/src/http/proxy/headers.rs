//! Which headers pass between a client and a backend.

use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponseBuilder,
    http::header::{HeaderMap, HeaderName, HeaderValue},
};
use chassis::http::CrossSite;
use reqwest::Response;

use crate::{
    config::Settings,
    http::{
        client_ip::{client_ip, from_trusted},
        routes::Route,
    },
    identity::WithoutCsrf,
};

/// What of a client's request a backend sees. All else stays here: cookies, keys, what belongs to one
/// connection (RFC 9110, 7.6.1), and what a client could use to pose as a proxy.
const FORWARDED: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "content-md5",
    "content-digest",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "prefer",
    "range",
    "tracestate",
    "user-agent",
];

/// What of a webhook's a backend sees besides: a vendor signs the body that is passed on as it is.
const SIGNATURES: &[&str] = &["telnyx-signature-ed25519", "telnyx-timestamp", "x-twilio-signature"];

/// What of a backend's answer belongs to its connection only (RFC 9110, 7.6.1), or is written again here.
const DROPPED: &[&str] = &[
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// The headers of a request as its backend sees them.
pub(super) fn forwarded(
    request: &HttpRequest,
    route: &Route,
    settings: &Settings,
) -> reqwest::header::HeaderMap {
    let mut headers = reqwest::header::HeaderMap::new();
    let signatures = if route.webhook { SIGNATURES } else { &[] };
    for name in FORWARDED.iter().chain(signatures) {
        for value in request.headers().get_all(*name) {
            if let Ok(value) = reqwest::header::HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(*name, value);
            }
        }
    }
    // The spans of a request: ours is the parent of the backend's. Without tracing here, the client's is.
    let traceparent = messaging::trace::traceparent().or_else(|| text(request.headers(), "traceparent"));
    // Scheme and host as the client sees them, where a trusted proxy says so.
    let connection = request.connection_info();
    let (scheme, host) = if from_trusted(request, &settings.trusted_proxies) {
        (connection.scheme().to_owned(), connection.host().to_owned())
    } else {
        let scheme = if request.app_config().secure() { "https" } else { "http" };
        (scheme.to_owned(), text(request.headers(), "host").unwrap_or_default())
    };
    let own = [
        ("x-request-id", chassis::http::request_id()),
        ("traceparent", traceparent),
        ("x-forwarded-for", Some(client_ip(request, &settings.trusted_proxies).to_string())),
        ("x-forwarded-proto", Some(scheme)),
        ("x-forwarded-host", Some(host).filter(|host| !host.is_empty())),
        (CrossSite::HEADER, request.extensions().contains::<WithoutCsrf>().then(|| "true".to_owned())),
    ];
    for (name, value) in own {
        if let Some(value) = value.and_then(|value| reqwest::header::HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Copies the headers of a backend's answer that are the client's to see.
pub(super) fn copy_answer(response: &Response, answer: &mut HttpResponseBuilder) {
    // A backend may name further headers that belong to its connection.
    let named: Vec<String> = response
        .headers()
        .get_all(reqwest::header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for (name, value) in response.headers() {
        if DROPPED.contains(&name.as_str()) || named.iter().any(|dropped| dropped == name.as_str()) {
            continue;
        }
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_str().as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            answer.append_header((name, value));
        }
    }
}
