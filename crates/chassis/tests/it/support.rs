//! A server of the chassis on a port of its own.

use std::time::Duration;

use actix_web::web::ServiceConfig;
use chassis::{
    config::HttpSettings,
    http::{Health, Server},
};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub struct Running {
    pub url: String,
    /// Of health and metrics, where they have a port of their own.
    pub metrics: String,
    pub task: JoinHandle<anyhow::Result<()>>,
    /// Cancelled on drop, too.
    pub shutdown: CancellationToken,
    _guard: DropGuard,
}

impl Running {
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

pub fn settings() -> HttpSettings {
    HttpSettings {
        host: "127.0.0.1".into(),
        port: 0,
        workers: 1,
        body_limit: 1024,
        body_timeout: Duration::from_secs(5),
        lame_duck: Duration::ZERO,
        drain: Duration::from_secs(5),
        metrics_port: None,
    }
}

pub fn start<F>(health: Health, configure: F) -> anyhow::Result<Running>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    start_with(&settings(), health, configure)
}

pub fn start_with<F>(settings: &HttpSettings, health: Health, configure: F) -> anyhow::Result<Running>
where
    F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let server = Server::bind(settings, health, configure)?;
    let metrics = server.metrics_address().map(|address| format!("http://{address}")).unwrap_or_default();
    let url = format!("http://{}", server.address());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.run(shutdown.clone()));
    Ok(Running { url, metrics, task, shutdown: shutdown.clone(), _guard: shutdown.drop_guard() })
}
