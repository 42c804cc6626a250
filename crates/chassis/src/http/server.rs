use std::{net::SocketAddr, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer,
    error::PathError,
    http::StatusCode,
    middleware::from_fn,
    web::{self, ServiceConfig},
};
use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::{Health, Problem, health, input::refuse_what_is_no_text, observe::observe, routes::get_only};
use crate::config::HttpSettings;

/// A server that has its port and is ready to run.
pub struct Server {
    server: actix_web::dev::Server,
    address: SocketAddr,
    drain: Duration,
}

impl Server {
    /// Takes the port. `configure` adds the service's routes and data; it runs once a worker thread.
    ///
    /// # Errors
    /// The address can't be had.
    pub fn bind<F>(settings: &HttpSettings, health: Health, configure_service: F) -> anyhow::Result<Self>
    where
        F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        let body_limit = settings.body_limit;
        let server = HttpServer::new(move || {
            let (health, configure_service) = (health.clone(), configure_service.clone());
            App::new()
                // The last is the outermost.
                .wrap(from_fn(refuse_what_is_no_text))
                .wrap(from_fn(observe))
                .configure(move |config| configure(config, &health, body_limit))
                .configure(configure_service)
                .default_service(web::to(no_such_route))
        })
        .workers(settings.workers)
        // Slow or silent clients don't hold a connection.
        .client_request_timeout(Duration::from_secs(10))
        .keep_alive(Duration::from_secs(60))
        .shutdown_timeout(settings.drain.as_secs())
        .disable_signals()
        .bind((settings.host.as_str(), settings.port))
        .with_context(|| format!("listening on {}:{}", settings.host, settings.port))?;
        let address = *server.addrs().first().context("the server has no address")?;
        Ok(Self { server: server.run(), address, drain: settings.drain })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is cancelled, then lets the requests under way finish.
    ///
    /// # Errors
    /// The server stopped by itself.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tracing::info!(address = %self.address, "listening");
        let handle = self.server.handle();
        let mut server = std::pin::pin!(self.server);
        tokio::select! {
            ended = &mut server => return ended.context("the HTTP server stopped"),
            () = shutdown.cancelled() => {}
        }
        tracing::info!(drain_s = self.drain.as_secs(), "no new requests");
        tokio::join!(handle.stop(true), server).1.context("stopping the HTTP server")
    }
}

/// Serves the routes of `configure_service`, besides health and metrics, until `shutdown`.
///
/// # Errors
/// As [`Server::bind`] and [`Server::run`].
pub async fn serve<F>(
    settings: &HttpSettings,
    health: Health,
    configure_service: F,
    shutdown: CancellationToken,
) -> anyhow::Result<()>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    Server::bind(settings, health, configure_service)?.run(shutdown).await
}

/// What every server has: `/health…`, `/metrics`, limits, and extractors whose errors are problems.
pub fn configure(config: &mut ServiceConfig, health: &Health, body_limit: usize) {
    config
        .app_data(web::PayloadConfig::new(body_limit))
        .app_data(web::PathConfig::default().error_handler(|error, _| path(&error).into()))
        .configure(|config| health::routes(config, health))
        .service(get_only("/metrics", metrics));
}

/// A path that can't be an id of ours names nothing.
fn path(error: &PathError) -> Problem {
    Problem::of(StatusCode::NOT_FOUND).because(anyhow::anyhow!("{error}"))
}

async fn no_such_route() -> Result<HttpResponse, Problem> {
    Err(Problem::of(StatusCode::NOT_FOUND))
}

async fn metrics() -> Result<HttpResponse, Problem> {
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&prometheus::default_registry().gather())
        .map_err(Problem::internal)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}
