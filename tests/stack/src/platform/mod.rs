//! Lote itself on a set of servers: the gateway, the services' APIs and their workers as processes, the
//! clients who use them, and the comparison of what came of an upload with what had to.

mod client;
mod events;
mod place;
pub mod sending;
mod sms;
mod verify;

pub use client::{Answer, Client, UPLOAD, Upload, answer, task_id};
pub use events::Events;
pub use place::Place;
pub use sms::{Campaign, Publisher, Settled};
pub use verify::{OBJECT_GONE, Verdict, compare, compare_failed, reached};

use crate::ports;
use crate::process::{Running, Service};
use crate::services::{ALL, CATALOG_UPLOAD, ETL, GATEWAY, REPORT, SMS_DISPATCH, Spec};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use reqwest::StatusCode;
use sea_orm::sqlx::PgPool;
use sea_orm::sqlx::postgres::PgPoolOptions;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The first administrator's name.
pub const ADMIN: &str = "admin";

/// How to run a platform.
#[derive(Clone, Debug)]
pub struct Options {
    /// The services beside the gateway, and how many workers each has.
    workers: BTreeMap<&'static str, usize>,
    /// Variables of every process, over the harness's own.
    env: Vec<(String, String)>,
    /// Where the processes' logs and spooled files go.
    pub dir: PathBuf,
}

impl Options {
    /// catalog-upload with one worker, and the services' own settings.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let workers = BTreeMap::from([(CATALOG_UPLOAD.name, 1)]);
        Self { workers, env: Vec::new(), dir: dir.into() }
    }

    /// With so many workers of catalog-upload.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        self.with(&CATALOG_UPLOAD, workers)
    }

    /// With a service: its API and so many workers.
    #[must_use]
    pub fn with(mut self, service: &'static Spec, workers: usize) -> Self {
        self.workers.insert(service.name, workers);
        self
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A running platform. Dropping it kills its processes.
#[derive(Debug)]
pub struct Platform {
    /// Where it lives.
    pub place: Place,
    /// The gateway.
    pub gateway: Running,
    services: BTreeMap<&'static str, Processes>,
    gateway_port: u16,
    password: String,
}

/// The processes of a service.
#[derive(Debug)]
pub struct Processes {
    /// Its API.
    pub api: Running,
    /// Its workers.
    pub workers: Vec<Running>,
    port: u16,
}

impl Processes {
    /// The base URL of its API, which the platform's clients don't know.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All of them, the API first.
    pub fn all(&self) -> impl Iterator<Item = &Running> {
        std::iter::once(&self.api).chain(&self.workers)
    }

    /// All of them, the API first.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Running> {
        std::iter::once(&mut self.api).chain(&mut self.workers)
    }

    /// Kills the workers.
    ///
    /// # Errors
    /// Where one won't go.
    pub async fn kill_workers(&self) -> Result<()> {
        for worker in &self.workers {
            worker.kill().await?;
        }
        Ok(())
    }

    /// Starts the workers that do not run.
    ///
    /// # Errors
    /// Where one doesn't get ready.
    pub async fn restart_workers(&mut self) -> Result<()> {
        for worker in &mut self.workers {
            if !worker.is_running() {
                worker.restart().await?;
            }
        }
        Ok(())
    }
}

impl Platform {
    /// Brings the schemas to this version, starts all processes at once and waits until they are ready.
    ///
    /// # Errors
    /// Where a migration fails or a process doesn't get ready, with its log.
    pub async fn start(place: Place, options: &Options) -> Result<Self> {
        std::fs::create_dir_all(options.dir.join("spool"))?;
        let gateway_port = ports::free()?;
        let password = crate::random_hex(12);
        let mut apis = Vec::new();
        for service in ALL {
            if options.workers.contains_key(service.name) {
                apis.push((service, ports::free()?));
            }
        }
        let recipe = Recipe { place: &place, options, gateway_port, apis: &apis, password: &password };
        let mut schemas = vec![recipe.process(&GATEWAY, "migrate", gateway_port)?];
        for (service, port) in &apis {
            schemas.push(recipe.process(service, "migrate", *port)?);
        }
        try_join_all(schemas.into_iter().map(migrate)).await?;

        let gateway = recipe.process(&GATEWAY, "api", gateway_port)?.start_unready()?;
        let mut services = BTreeMap::new();
        for (service, port) in &apis {
            let api = recipe.process(service, "api", *port)?.start_unready()?;
            let workers = (0..options.workers.get(service.name).copied().unwrap_or_default())
                .map(|_| recipe.process(service, "worker", ports::free()?)?.start_unready())
                .collect::<Result<Vec<_>>>()?;
            services.insert(service.name, Processes { api, workers, port: *port });
        }
        let processes = services.values().flat_map(Processes::all);
        for process in std::iter::once(&gateway).chain(processes) {
            process.wait_ready().await?;
        }
        Ok(Self { place, gateway, services, gateway_port, password })
    }

    /// The gateway's base URL.
    pub fn gateway_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway_port)
    }

    /// The processes of a service.
    ///
    /// # Panics
    /// Where the platform was started without it.
    pub fn service(&self, service: &Spec) -> &Processes {
        self.services.get(service.name).expect("the options name every service that a test asks for")
    }

    /// The processes of a service.
    ///
    /// # Panics
    /// Where the platform was started without it.
    pub fn service_mut(&mut self, service: &Spec) -> &mut Processes {
        self.services.get_mut(service.name).expect("the options name every service that a test asks for")
    }

    /// The administrator's password.
    pub fn admin_password(&self) -> &str {
        &self.password
    }

    /// The administrator, logged in at the gateway.
    ///
    /// # Errors
    /// Where the login fails.
    pub async fn admin(&self) -> Result<Client> {
        Client::login(&self.gateway_url(), ADMIN, &self.password).await
    }

    /// A new user of this role, logged in. A supplier needs the `proveedor_id` it is bound to.
    ///
    /// # Errors
    /// Where the gateway refuses.
    pub async fn user(&self, role: &str, proveedor_id: Option<&str>) -> Result<Client> {
        let name = format!("u{}", crate::random_hex(6));
        let password = crate::random_hex(12);
        let user = json!({
            "username": name, "name": name, "password": password, "role": role, "proveedor_id": proveedor_id,
        });
        let admin = self.admin().await?;
        let answer = admin.post("/api/v1/users", &user).await?;
        ensure!(answer.status == StatusCode::CREATED, "create a user: {answer}");
        Client::login(&self.gateway_url(), &name, &password).await
    }

    /// A new supplier, logged in.
    ///
    /// # Errors
    /// Where the gateway refuses.
    pub async fn supplier(&self, proveedor_id: &str) -> Result<Client> {
        self.user("supplier", Some(proveedor_id)).await
    }

    /// catalog-upload's tables, for the test itself: not through a proxy. The next two are the same of others.
    ///
    /// # Errors
    /// Where PostgreSQL can't be reached.
    pub async fn catalog(&self) -> Result<PgPool> {
        connect(self.place.database(&CATALOG_UPLOAD)).await
    }

    /// report's tables.
    ///
    /// # Errors
    /// Where PostgreSQL can't be reached.
    pub async fn reports(&self) -> Result<PgPool> {
        connect(self.place.database(&REPORT)).await
    }

    /// sms-dispatch's tables.
    ///
    /// # Errors
    /// Where PostgreSQL can't be reached.
    pub async fn contacts(&self) -> Result<PgPool> {
        connect(self.place.database(&SMS_DISPATCH)).await
    }

    /// etl's own tables.
    ///
    /// # Errors
    /// Where PostgreSQL can't be reached.
    pub async fn syncs(&self) -> Result<PgPool> {
        connect(self.place.database(&ETL)).await
    }

    /// Everything that the services' doctors find wrong.
    ///
    /// # Errors
    /// Where a doctor can't be run.
    pub async fn doctor(&self) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        let apis = self.services.values().map(|service| service.api.service());
        for service in std::iter::once(self.gateway.service()).chain(apis) {
            let (status, said) = service.with_args(&["doctor"]).run().await?;
            if !status.success() {
                let log = service.log().display();
                ensure!(!said.trim().is_empty(), "a doctor ended with {status} and found nothing: {log}");
                findings.extend(said.lines().map(str::to_owned));
            }
        }
        Ok(findings)
    }
}

/// A small pool on a database that may be restarted under it.
///
/// # Errors
/// Where PostgreSQL can't be reached.
pub async fn connect(url: &str) -> Result<PgPool> {
    PgPoolOptions::new().max_connections(4).connect(url).await.context("connect to PostgreSQL")
}

async fn migrate(service: Service) -> Result<()> {
    let (status, said) = service.run().await?;
    ensure!(status.success(), "migrate: {status}\n{said}\nlog: {}", service.log().display());
    Ok(())
}

/// How the processes of one platform are run.
struct Recipe<'a> {
    place: &'a Place,
    options: &'a Options,
    gateway_port: u16,
    /// The services that run, with the ports of their APIs.
    apis: &'a [(&'static Spec, u16)],
    password: &'a str,
}

impl Recipe<'_> {
    /// A service's binary with an argument: a role, or what else it can do.
    fn process(&self, service: &Spec, argument: &str, port: u16) -> Result<Service> {
        let name = if argument == "worker" {
            format!("{}-{port}", service.process("worker"))
        } else {
            service.name.to_owned()
        };
        let log = self.options.dir.join(format!("{name}.log"));
        let process = Service::new(&service.binary(), &[argument], &log)?
            .envs(self.place.environment(service)?)
            .env("SPOOL_DIR", self.options.dir.join("spool").display().to_string());
        let process = if *service == GATEWAY { self.gateway(process) } else { process };
        let process = process
            .env("HTTP_PORT", port.to_string())
            .env("HTTP_WORKERS", "2")
            .env("JWKS_URL", format!("http://127.0.0.1:{}/.well-known/jwks.json", self.gateway_port))
            // Where providers reach us.
            .env("SMS_PUBLIC_URL", format!("http://127.0.0.1:{}", self.gateway_port))
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))
            .env("LOG_FORMAT", "text")
            .ready_when(&format!("http://127.0.0.1:{port}/health/ready"));
        Ok(process.envs(self.options.env.iter().map(|(name, value)| (name, value))))
    }

    fn gateway(&self, process: Service) -> Service {
        let urls = self.apis.iter().map(|(service, port)| {
            (format!("{}_URL", service.variable()), format!("http://127.0.0.1:{port}"))
        });
        process
            .envs(urls)
            .env("ADMIN_USER", ADMIN)
            .env("ADMIN_PASSWORD", self.password)
            .env("KEY_ENCRYPTION_SECRET", "a secret of tests, the same over restarts")
            // Sessions over plain HTTP, and no limits that a busy test would meet. What a password hash
            // costs is not the matter here.
            .env("SECURE_COOKIES", "false")
            .env("RATE_LIMIT_AUTH", "100000/60")
            .env("RATE_LIMIT_UPLOAD", "100000/60")
            .env("RATE_LIMIT_DEFAULT", "1000000/60")
            // One caller stands for many.
            .env("UPLOAD_CONNECTIONS", "1000")
            .env("CALLER_CONNECTIONS", "10000")
            .env("ARGON2_MEMORY_KIB", "1024")
            .env("ARGON2_ITERATIONS", "1")
    }
}
