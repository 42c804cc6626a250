//! What happens to every request: an id, a span, a line in the log, two metrics, safe headers, and a
//! problem where a library would have answered in its own way.

use std::{sync::LazyLock, time::Instant};

use actix_web::{
    Error, ResponseError as _,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
};
use opentelemetry::propagation::Extractor;
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
    let path = request.path().to_owned();
    let span = tracing::info_span!(
        "http",
        request_id = id,
        otel.name = Empty,
        http.route = Empty,
        otel.kind = "server"
    );
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&Headers(request.headers()))
    });
    // Fails only where no OpenTelemetry layer is installed, as in tests.
    let _linked = span.set_parent(parent);

    let http_request = request.request().clone();
    let work = async {
        let response = match next.call(request).await {
            Ok(response) => response.map_into_boxed_body(),
            // An error that a middleware raised before any handler.
            Err(error) => ServiceResponse::from_err(error, http_request),
        };
        as_problem(response)
    };
    let mut response = CURRENT.scope(id.clone(), work.instrument(span.clone())).await;

    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status();
    let elapsed = started.elapsed();
    // A method is whatever the client writes: a label must not be.
    let label = if method.as_str().len() <= 7 && STANDARD.contains(&method.as_str()) {
        method.as_str()
    } else {
        "other"
    };
    REQUESTS.with_label_values(&[label, &route, status.as_str()]).inc();
    SECONDS.with_label_values(&[label, &route]).observe(elapsed.as_secs_f64());
    harden(response.headers_mut(), &id);

    let _entered = span.enter();
    span.record("otel.name", format!("{method} {route}"));
    span.record("http.route", &route);
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let status_code = status.as_u16();
    // The path without its query, which may hold names and numbers of people.
    if status.is_server_error() {
        let cause = response.response().error().map(describe).unwrap_or_default();
        tracing::error!(%method, path, route, status = status_code, elapsed_ms, cause, "request failed");
    } else if path.starts_with("/health") || path == "/metrics" {
        tracing::debug!(%method, path, route, status = status_code, elapsed_ms, "request");
    } else {
        tracing::info!(%method, path, route, status = status_code, elapsed_ms, "request");
    }
    drop(_entered);
    Ok(response)
}

const STANDARD: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

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
fn as_problem(response: ServiceResponse) -> ServiceResponse {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let foreign = match response.response().error() {
        Some(error) => error.as_error::<Problem>().is_none(),
        None => matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0)),
    };
    if !foreign || response.request().method() == actix_web::http::Method::HEAD {
        return response;
    }
    let mut problem = Problem::of(status);
    if let Some(error) = response.response().error() {
        problem = problem.because(anyhow::anyhow!("{error}"));
    }
    let allow = response.headers().get(header::ALLOW).cloned();
    let (request, _) = response.into_parts();
    let mut answer = problem.error_response();
    if let Some(allow) = allow {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    ServiceResponse::new(request, answer)
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
