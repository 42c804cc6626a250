use super::env;
use super::state::{self, Demo};
use anyhow::{Context, Result};
use futures::future::{join_all, try_join_all};
use rustix::process::Signal;
use stack::daemon::Daemon;
use stack::namespace::create_role;
use stack::process::Service;
use stack::server::create_database;
use stack::services::ALL;
use std::time::{Duration, Instant};

/// How long a service may take until it is ready. Seconds, on a machine that does nothing else.
const READY: Duration = Duration::from_secs(120);

/// How long a service may take to finish what it has begun.
const DRAIN: Duration = Duration::from_secs(30);

/// Starts what doesn't run, restarts services whose binary or settings changed, and waits until all is
/// ready.
pub async fn up() -> Result<Demo> {
    // Two at once would start everything twice.
    let _lock = stack::servers::lock(&Demo::dir()).await?;
    let demo = Demo::open()?;
    let begin = Instant::now();
    let fresh = !demo.stack.is_running();
    if fresh {
        println!("Starting servers (data and logs in .stack/demo)");
    }
    tokio::try_join!(
        ready("PostgreSQL", demo.stack.postgres.port(), fresh, demo.stack.postgres.start()),
        ready("RabbitMQ", demo.stack.rabbit.port(), fresh, demo.stack.rabbit.start()),
        ready("Redis", demo.stack.redis.port(), fresh, demo.stack.redis.start()),
        ready("LocalStack", demo.stack.localstack.port(), fresh, demo.stack.localstack.start()),
        ready("MariaDB", demo.stack.mariadb.port(), fresh, demo.stack.mariadb.start()),
    )?;
    let admin = demo.stack.postgres.url();
    for service in ALL {
        let password = demo.passwords.get(service.name).context("each service has a password")?;
        create_role(&admin, &service.schema(), password).await?;
    }
    create_database(&demo.stack.mariadb.url(), "sales", &demo.sales_password).await?;
    start_services(&demo).await?;
    env::write(&demo)?;
    println!("Everything is ready ({:.1} s)", begin.elapsed().as_secs_f64());
    Ok(demo)
}

async fn ready(name: &str, port: u16, say: bool, start: impl Future<Output = Result<()>>) -> Result<()> {
    let begin = Instant::now();
    start.await.context(name.to_owned())?;
    if say {
        println!("  ✓ {name:<24} 127.0.0.1:{port:<17} {:>5.1} s", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

async fn start_services(demo: &Demo) -> Result<()> {
    let services = demo.services()?;
    let mut stale = Vec::new();
    for service in &services {
        let (name, _, spec) = service;
        match state::running(name) {
            Some(_) if state::is_current(name, spec)? => {}
            old => stale.push((service, old)),
        }
    }
    if !stale.is_empty() {
        println!("Starting services");
        let drains = stale.iter().filter_map(|(_, old)| old.as_ref()).map(drain);
        for drained in join_all(drains).await {
            drained?;
        }
        try_join_all(ALL.map(|service| demo.wiring.migrate(service))).await?;
    }
    let mut started = Vec::new();
    for ((name, url, spec), _) in &stale {
        let daemon = spec.spawn_daemon()?;
        state::remember(name, &daemon, spec)?;
        started.push(answers(name, url, spec, daemon));
    }
    for answer in join_all(started).await {
        answer?;
    }
    Ok(())
}

async fn answers(name: &str, url: &str, spec: &Service, daemon: Daemon) -> Result<()> {
    let begin = Instant::now();
    spec.wait_ready(&daemon, READY).await?;
    println!("  ✓ {name:<24} {url:<27} {:>5.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Asks a process to finish and leave; kills it where it doesn't.
pub async fn drain(daemon: &Daemon) -> Result<()> {
    daemon.signal(Signal::TERM);
    match daemon.gone(DRAIN).await {
        Ok(()) => Ok(()),
        Err(_) => daemon.kill().await,
    }
}
