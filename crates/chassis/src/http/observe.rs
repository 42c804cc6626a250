//! What happens to every request: an id, a span, a line in the log, two metrics, safe headers, and a
//! problem where a library would have answered in its own way.

use std::{
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::Instant,
};

use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
};
use bytes::Bytes;
use opentelemetry::{propagation::Extractor, trace::TraceContextExt as _};
use percent_encoding::percent_decode_str;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, core::Collector};
use tracing::{Instrument as _, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use super::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that this task serves: for calls and messages that go out for it.
pub fn request_id() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let options = Opts::new("http_requests_total", "Requests answered");
    registered(IntCounterVec::new(options, &["method", "route", "status"]))
});

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    let options = HistogramOpts::new("http_request_duration_seconds", "Seconds until the answer begins")
        .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
    registered(HistogramVec::new(options, &["method", "route"]))
});

fn registered<C: Collector + Clone + 'static>(metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("a constant name and constant labels make a metric");
    prometheus::default_registry()
        .register(Box::new(metric.clone()))
        .expect("each metric has a name of its own and is registered once");
    metric
}

/// The middleware.
pub(super) async fn observe<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let id = inbound_id(request.headers()).unwrap_or_else(|| Uuid::now_v7().to_string());
    let method = request.method().clone();
    let path = shown(request.path());
    let span = tracing::info_span!(
        "http",
        request_id = id,
        otel.name = method.as_str(),
        otel.kind = "server",
        http.request.method = method.as_str(),
        http.route = Empty,
        http.response.status_code = Empty,
    );
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&Headers(request.headers()))
    });
    // Fails only where no OpenTelemetry layer is installed, as in tests.
    let _linked = span.set_parent(parent);

    let answered = CURRENT
        .scope(
            id.clone(),
            async { next.call(request).await.map(as_problem).map_err(answer) }.instrument(span.clone()),
        )
        .await;
    // An error that a middleware raised has lost its request, but not its answer.
    let (mut response, request) = match answered {
        Ok(response) => {
            let (request, response) = response.into_parts();
            (response, Some(request))
        }
        Err(response) => (response, None),
    };

    let route =
        request.as_ref().and_then(HttpRequest::match_pattern).unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status();
    let elapsed = started.elapsed();
    // A method is whatever the client writes: a label must not be.
    let label = if STANDARD.contains(&method.as_str()) { method.as_str() } else { "other" };
    REQUESTS.with_label_values(&[label, &route, status.as_str()]).inc();
    SECONDS.with_label_values(&[label, &route]).observe(elapsed.as_secs_f64());
    if method == Method::HEAD {
        response = response.map_body(|_, body| BoxBody::new(Unsent(body.size())));
    }
    harden(response.headers_mut(), &id);

    span.record("http.route", &route).record("http.response.status_code", status.as_u16());
    // A span that has begun takes another name only here: recording `otel.name` comes too late.
    span.context().span().update_name(format!("{method} {route}"));
    span.in_scope(|| {
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let status_code = status.as_u16();
        // The path without its query, which may hold names and numbers of people.
        if status.is_server_error() {
            let cause = response.error().map(describe).unwrap_or_default();
            tracing::error!(%method, path, route, status = status_code, elapsed_ms, cause, "request failed");
        } else if path.starts_with("/health") || path == "/metrics" {
            tracing::debug!(%method, path, route, status = status_code, elapsed_ms, "request");
        } else {
            tracing::info!(%method, path, route, status = status_code, elapsed_ms, "request");
        }
    });
    match request {
        Some(request) => Ok(ServiceResponse::new(request, response)),
        None => Err(InternalError::from_response("answered", response).into()),
    }
}

/// The answer to an error, which it keeps for the log.
fn answer(error: Error) -> HttpResponse {
    let response = HttpResponse::from_error(error);
    replacement(&response).unwrap_or(response)
}

/// What stands in the place of a body that a HEAD does not get: nothing of it is made, but its size is said.
struct Unsent(BodySize);

impl MessageBody for Unsent {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}

const STANDARD: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A path as a log may show it: without phones, and without the secrets that are in paths of webhooks and of links in
/// messages.
fn shown(path: &str) -> String {
    if let Some(rest) = path.strip_prefix("/webhooks/") {
        let vendor = rest.split('/').next().unwrap_or_default();
        return format!("/webhooks/{vendor}/***");
    }
    match path.starts_with("/b/") {
        true => "/b/***".to_owned(),
        false => without_phones(path),
    }
}

/// A path without phones: of a segment that is a phone, in whatever spelling and however often encoded, the last
/// four digits. No id of ours is so many digits and no letter.
fn without_phones(path: &str) -> String {
    let shown = path.split('/').map(|segment| {
        let mut plain = segment.to_owned();
        while let decoded = percent_decode_str(&plain).decode_utf8_lossy().into_owned()
            && decoded != plain
        {
            plain = decoded;
        }
        let digits: String = plain.chars().filter(char::is_ascii_digit).collect();
        let is_phone =
            digits.len() >= 10 && plain.chars().all(|c| c.is_ascii_digit() || "+-(). ".contains(c));
        if is_phone { format!("******{}", &digits[digits.len() - 4..]) } else { segment.to_owned() }
    });
    shown.collect::<Vec<_>>().join("/")
}

/// A caller's own id, if it can do no harm in a log or a header.
fn inbound_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let sane = (8..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    sane.then(|| id.to_owned())
}

fn describe(error: &Error) -> String {
    match error.as_error::<Problem>() {
        Some(problem) => match problem.cause() {
            Some(cause) => format!("{problem}: {cause:#}"),
            None => problem.to_string(),
        },
        None => error.to_string(),
    }
}

/// Answers of libraries (an extractor's error, an empty 404 or 405) as problems.
fn as_problem<B: MessageBody + 'static>(response: ServiceResponse<B>) -> ServiceResponse {
    let (request, response) = response.map_into_boxed_body().into_parts();
    let replacement = match *request.method() {
        // Its body is empty by nature.
        Method::HEAD => None,
        _ => replacement(&response),
    };
    ServiceResponse::new(request, replacement.unwrap_or(response))
}

/// The problem to answer instead, where what would be answered is an error and no problem.
fn replacement(response: &HttpResponse) -> Option<HttpResponse> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let mut problem = Problem::of(status);
    match response.error() {
        Some(error) if error.as_error::<Problem>().is_some() => return None,
        Some(error) => problem = problem.because(anyhow::anyhow!("{error}")),
        None if !matches!(response.body().size(), BodySize::None | BodySize::Sized(0)) => return None,
        None => {}
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut answer = HttpResponse::from_error(problem);
    if let Some(allow) = allow {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    Some(answer)
}

/// Headers that every answer has (OWASP's REST security cheat sheet). What a handler set stays.
fn harden(headers: &mut HeaderMap, id: &str) {
    const DEFAULTS: &[(HeaderName, &str)] = &[
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in DEFAULTS {
        if !headers.contains_key(name) {
            headers.insert(name.clone(), HeaderValue::from_static(value));
        }
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_paths_of_webhooks_are_masked() {
        assert_eq!(shown("/webhooks/bsale/geheim"), "/webhooks/bsale/***");
        assert_eq!(shown("/webhooks/bsale/geheim/more"), "/webhooks/bsale/***");
        assert_eq!(shown("/api/v1/webhooks/x"), "/api/v1/webhooks/x");
    }

    #[test]
    fn phones_in_paths_are_masked_and_ids_are_not() {
        for phone in [
            "6121004768",
            "+52 612 100 4768",
            "%2B526121004768",
            "(612)%20100-4768",
            "0446121004768",
            "%2b526121004768",
            "%36121004768",
            "%36%31%32%31%30%30%34%37%36%38",
            "612%2D100%2d4768",
            "%2536121004768",
        ] {
            assert_eq!(
                without_phones(&format!("/api/v1/suppressions/{phone}")),
                "/api/v1/suppressions/******4768"
            );
        }
        for path in
            ["/api/v1/contacts/36645692", "/api/v1/reports/0190b5a4-7c1e-7d4b-9c39-012345678901", "/", ""]
        {
            assert_eq!(without_phones(path), path);
        }
    }
}
