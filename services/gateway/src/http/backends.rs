//! The connections to the services behind the gateway.

use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use prometheus::{HistogramVec, IntCounterVec, register_histogram_vec, register_int_counter_vec};
use tracing::warn;

use super::{breaker::Breaker, routes::Backend};
use crate::{SERVICE, config::Settings};

static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "gateway_backend_seconds",
        "Seconds until a backend's answer began, by backend and outcome",
        &["backend", "outcome"]
    )
    .expect("registered once, with a valid name")
});

static OPENED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "gateway_breaker_opened_total",
        "How often a backend was left alone because it failed",
        &["backend"]
    )
    .expect("registered once, with a valid name")
});

/// One service behind the gateway.
#[derive(Debug)]
pub struct Target {
    /// Which.
    pub backend: Backend,
    /// Its base URL, without a slash at the end.
    base: String,
    breaker: Breaker,
}

/// All of them, and the client that calls them.
#[derive(Debug)]
pub struct Backends {
    /// Waits at most the configured time for a connection; all other limits are the caller's.
    pub client: reqwest::Client,
    targets: BTreeMap<Backend, Target>,
}

/// How long health, documentation and lists wait for one backend.
const QUICK: Duration = Duration::from_secs(2);

impl Backends {
    /// Prepares the client; nothing connects yet.
    ///
    /// # Errors
    /// A client that can't be built.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        chassis::tls::install();
        let client = reqwest::Client::builder()
            .connect_timeout(settings.connect_timeout)
            // Far shorter than what our services keep an idle connection for, so that a request hardly ever meets one
            // that is just being closed.
            .pool_idle_timeout(Duration::from_secs(4))
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context("could not build the client for the backends")?;
        let targets = settings
            .backends
            .iter()
            .map(|(&backend, url)| {
                let target = Target {
                    backend,
                    base: url.expose().trim_end_matches('/').to_owned(),
                    breaker: Breaker::new(settings.breaker_threshold, settings.breaker_pause),
                };
                (backend, target)
            })
            .collect();
        Ok(Self { client, targets })
    }

    /// The service, if it has a URL.
    pub fn get(&self, backend: Backend) -> Option<&Target> {
        self.targets.get(&backend)
    }

    /// Every service that has a URL.
    pub fn all(&self) -> impl Iterator<Item = &Target> {
        self.targets.values()
    }

    /// A small JSON document of a backend, for what the gateway itself puts together from all of them.
    ///
    /// # Errors
    /// The backend is left alone, down, late, or does not answer 200 with JSON.
    pub async fn json(
        &self,
        target: &Target,
        path: &str,
        token: Option<&str>,
    ) -> anyhow::Result<serde_json::Value> {
        if target.admit().is_err() {
            anyhow::bail!("{} failed a moment ago", target.backend.name());
        }
        let mut request = self.client.get(target.url(path)).timeout(QUICK);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let started = Instant::now();
        // Whoever asks, it is the gateway's own question: one caller.
        let response = request.send().await.map_err(|error| {
            let error = error.without_url();
            match &error {
                error if error.is_connect() => target.unreachable(started),
                error if error.is_timeout() => target.failed(started, "silent", SERVICE),
                _ => target.broke_off(started),
            }
            error
        })?;
        target.answered(started, response.status(), SERVICE);
        Ok(response.error_for_status()?.json().await?)
    }

    /// Whether a backend lives, for readiness.
    ///
    /// # Errors
    /// Why it seems not to.
    pub async fn ping(&self, target: &Target) -> anyhow::Result<()> {
        self.client.get(target.url("/health/live")).timeout(QUICK).send().await?.error_for_status()?;
        Ok(())
    }
}

impl Target {
    /// The URL of a path (with its query, if any) there.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.base)
    }

    /// Whether a request may go out now.
    ///
    /// # Errors
    /// The circuit is open, for so much longer.
    pub fn admit(&self) -> Result<(), Duration> {
        self.breaker.admit(Instant::now())
    }

    /// It answered a request of `caller`. What is the client's fault is a success; an error of its own is not.
    pub fn answered(&self, started: Instant, status: reqwest::StatusCode, caller: &str) {
        if status.is_server_error() {
            self.failed(started, "error", caller);
        } else {
            self.breaker.succeeded();
            self.observe(started, "answered");
        }
    }

    /// It took the connection and closed it before it had answered. Nothing is concluded from that: the request
    /// may be why (a form that its parser can't bear), and of a process that died the next connection tells.
    pub fn broke_off(&self, started: Instant) {
        self.observe(started, "broke_off");
    }

    /// It takes no file for the moment: others send as many as it has room for, or its disk or S3 has none. It is there, and
    /// nothing is concluded for requests without a file.
    pub fn takes_no_file(&self, started: Instant) {
        self.observe(started, "error");
    }

    /// No connection came about.
    pub fn unreachable(&self, started: Instant) {
        self.observe(started, "unreachable");
        self.report(self.breaker.unreachable(Instant::now()), "unreachable");
    }

    /// It answered a request of `caller` with an error of its own, or not in time.
    pub fn failed(&self, started: Instant, outcome: &str, caller: &str) {
        self.observe(started, outcome);
        self.report(self.breaker.failed(caller, Instant::now()), outcome);
    }

    fn report(&self, opened: bool, outcome: &str) {
        if opened {
            OPENED.with_label_values(&[self.backend.name()]).inc();
            warn!(
                backend = self.backend.name(),
                outcome, "backend keeps failing, leaving it alone for a moment"
            );
        }
    }

    fn observe(&self, started: Instant, outcome: &str) {
        SECONDS.with_label_values(&[self.backend.name(), outcome]).observe(started.elapsed().as_secs_f64());
    }
}
