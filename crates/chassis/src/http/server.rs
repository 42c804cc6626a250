use std::{any::Any, net::SocketAddr, time::Duration};

use actix_web::{
    App, Error, HttpResponse, HttpServer,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::PathError,
    http::{ConnectionType, StatusCode},
    middleware::{Next, from_fn},
    rt::net::TcpStream,
    web::{self, ServiceConfig},
};
use anyhow::Context as _;
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use super::{
    ApiResult, Health, Problem, health,
    input::{Bodies, refuse_what_is_no_text},
    observe::observe,
    routes::get_only,
};
use crate::config::HttpSettings;

/// A server that has its ports and is ready to run.
pub struct Server {
    server: actix_web::dev::Server,
    address: SocketAddr,
    /// For those who operate it, where that has a port of its own.
    metrics: Option<(actix_web::dev::Server, SocketAddr)>,
    health: Health,
    lame_duck: Duration,
    drain: Duration,
}

impl Server {
    /// Takes the ports. `configure` adds the service's routes and data; it runs once a worker thread.
    ///
    /// # Errors
    /// An address can't be had.
    pub fn bind<F>(settings: &HttpSettings, health: Health, configure_service: F) -> anyhow::Result<Self>
    where
        F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        let bodies = Bodies { limit: settings.body_limit, timeout: settings.body_timeout };
        let with_metrics = settings.metrics_port.is_none();
        let common = health.clone();
        let server = HttpServer::new(move || {
            let (health, configure_service) = (common.clone(), configure_service.clone());
            App::new()
                // The last is the outermost.
                .wrap(from_fn(refuse_what_is_no_text))
                .wrap(from_fn(observe))
                .wrap(from_fn(close_when_draining))
                .app_data(health.clone())
                .configure(move |config| configure(config, &health, bodies))
                .configure(move |config| {
                    if with_metrics {
                        serve_metrics(config)
                    }
                })
                .configure(configure_service)
                .default_service(web::to(no_such_route))
        })
        .workers(settings.workers)
        // Slow or silent clients don't hold a connection.
        .client_request_timeout(Duration::from_secs(10))
        .keep_alive(Duration::from_secs(60))
        // An answer in two writes would wait 40 ms for the acknowledgement of the first.
        .tcp_nodelay(true)
        .on_connect(|connection, _| give_up_on_who_takes_nothing(connection))
        .shutdown_timeout(settings.drain.as_secs())
        .disable_signals()
        .bind((settings.host.as_str(), settings.port))
        .with_context(|| format!("listening on {}:{}", settings.host, settings.port))?;
        let address = *server.addrs().first().context("the server has no address")?;
        let metrics = settings.metrics_port.map(|port| bind_metrics(&settings.host, port, &health));
        let (lame_duck, drain) = (settings.lame_duck, settings.drain);
        Ok(Self { server: server.run(), address, metrics: metrics.transpose()?, health, lame_duck, drain })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves metrics, if on a port of its own.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `shutdown` is cancelled. Then it says that it is not ready, and takes requests for the lame
    /// duck's time; then it lets those under way finish. Health and metrics are served until the end.
    ///
    /// # Errors
    /// The server stopped by itself.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        tracing::info!(address = %self.address, metrics = ?self.metrics_address(), "listening");
        let handle = self.server.handle();
        let metrics = self.metrics.map(|(server, _)| (server.handle(), tokio::spawn(server)));
        let mut server = std::pin::pin!(self.server);
        tokio::select! {
            ended = &mut server => return ended.context("the HTTP server stopped"),
            () = shutdown.cancelled() => {}
        }
        self.health.drain();
        if !self.lame_duck.is_zero() {
            tracing::info!(
                lame_duck_s = self.lame_duck.as_secs(),
                "not ready any more, requests are still taken"
            );
            tokio::select! {
                ended = &mut server => return ended.context("the HTTP server stopped"),
                () = tokio::time::sleep(self.lame_duck) => {}
            }
        }
        tracing::info!(drain_s = self.drain.as_secs(), "no new requests");
        let ended = tokio::join!(handle.stop(true), server).1.context("stopping the HTTP server");
        if let Some((handle, serving)) = metrics {
            handle.stop(false).await;
            serving.await?.context("stopping the server of metrics")?;
        }
        ended
    }
}

/// The listener of those who operate the process, which strangers don't reach.
fn bind_metrics(
    host: &str,
    port: u16,
    health: &Health,
) -> anyhow::Result<(actix_web::dev::Server, SocketAddr)> {
    let health = health.clone();
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(observe))
            .configure(|config| health::routes(config, &health))
            .configure(serve_metrics)
            .default_service(web::to(no_such_route))
    })
    .workers(1)
    .client_request_timeout(Duration::from_secs(10))
    .disable_signals()
    .bind((host, port))
    .with_context(|| format!("listening on {host}:{port} for metrics"))?;
    let address = *server.addrs().first().context("the server of metrics has no address")?;
    Ok((server.run(), address))
}

/// Once the process drains, each answer ends its connection, so that the client's next request goes elsewhere.
async fn close_when_draining<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let health = request.app_data::<Health>().cloned();
    let mut response = next.call(request).await?;
    if health.is_some_and(|health| health.is_draining()) {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
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

/// What every server has: `/health…`, limits, and extractors whose errors are problems.
fn configure(config: &mut ServiceConfig, health: &Health, bodies: Bodies) {
    config
        .app_data(web::PayloadConfig::new(bodies.limit))
        .app_data(bodies)
        .app_data(web::PathConfig::default().error_handler(|error, _| path(&error).into()))
        .configure(|config| health::routes(config, health));
}

fn serve_metrics(config: &mut ServiceConfig) {
    config.service(get_only("/metrics", metrics));
}

/// A path that can't be an id of ours names nothing.
fn path(error: &PathError) -> Problem {
    Problem::of(StatusCode::NOT_FOUND).because(anyhow::anyhow!("{error}"))
}

async fn no_such_route() -> ApiResult {
    Err(Problem::of(StatusCode::NOT_FOUND))
}

async fn metrics() -> ApiResult {
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&prometheus::default_registry().gather())
        .map_err(Problem::internal)?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

/// How long a client may take nothing of an answer that is under way.
const TAKES_NOTHING: Duration = Duration::from_secs(60);

/// actix waits for ever for a client that does not read; the kernel does not.
fn give_up_on_who_takes_nothing(connection: &dyn Any) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>()
        && let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(TAKES_NOTHING))
    {
        tracing::debug!(%error, "a connection without a limit of time");
    }
}
