//! Lote itself on a set of servers: the gateway, the services' APIs and their workers as processes, the
//! clients who use them, and the comparison of what came of an upload with what had to.

mod client;
mod events;
mod place;
mod sms;
mod verify;

pub use client::{Answer, Client, UPLOAD, Upload, answer, task_id};
pub use events::Events;
pub use place::Place;
pub use sms::{Campaign, Publisher, Settled};
pub use verify::{OBJECT_GONE, Verdict, compare, compare_failed, reached};

use crate::ports;
use crate::process::{Running, Service};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use reqwest::StatusCode;
use sea_orm::sqlx::PgPool;
use sea_orm::sqlx::postgres::PgPoolOptions;
use serde_json::json;
use std::path::PathBuf;

/// The first administrator's name.
pub const ADMIN: &str = "admin";

/// How to run a platform.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker processes of catalog-upload.
    pub workers: usize,
    /// Worker processes of report; without any, report does not run at all.
    pub report_workers: usize,
    /// Whether sms-dispatch runs: its API and a worker.
    pub sms: bool,
    /// Worker processes of etl; without any, etl does not run at all.
    pub etl_workers: usize,
    /// Variables of every process, over the harness's own.
    pub env: Vec<(String, String)>,
    /// Where the processes' logs and spooled files go.
    pub dir: PathBuf,
}

impl Options {
    /// One worker, and the services' own settings.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { workers: 1, report_workers: 0, sms: false, etl_workers: 0, env: Vec::new(), dir: dir.into() }
    }

    /// Other than one worker.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// With report: its API and so many workers.
    #[must_use]
    pub fn report(mut self, workers: usize) -> Self {
        self.report_workers = workers;
        self
    }

    /// With sms-dispatch.
    #[must_use]
    pub fn sms(mut self) -> Self {
        self.sms = true;
        self
    }

    /// With etl: its API and so many workers. What it syncs is the test's to say, by [`Options::env`].
    #[must_use]
    pub fn etl(mut self, workers: usize) -> Self {
        self.etl_workers = workers;
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
    /// catalog-upload's API.
    pub api: Running,
    /// catalog-upload's workers.
    pub workers: Vec<Running>,
    /// report, if it was asked for.
    pub report: Option<Processes>,
    /// sms-dispatch, if it was asked for.
    pub sms: Option<Processes>,
    /// etl, if it was asked for.
    pub etl: Option<Processes>,
    gateway_port: u16,
    api_port: u16,
    password: String,
}

/// The processes of a service that not every test needs.
#[derive(Debug)]
pub struct Processes {
    /// Its API.
    pub api: Running,
    /// Its workers.
    pub workers: Vec<Running>,
    port: u16,
}

impl Platform {
    /// Brings the schemas to this version, starts all processes at once and waits until they are ready.
    ///
    /// # Errors
    /// Where a migration fails or a process doesn't get ready, with its log.
    pub async fn start(place: Place, options: &Options) -> Result<Self> {
        std::fs::create_dir_all(options.dir.join("spool"))?;
        let (gateway_port, api_port) = (ports::free()?, ports::free()?);
        let password = crate::random_hex(12);
        let report_port = if options.report_workers > 0 { Some(ports::free()?) } else { None };
        let sms_port = if options.sms { Some(ports::free()?) } else { None };
        let etl_port = if options.etl_workers > 0 { Some(ports::free()?) } else { None };
        let recipe = Recipe {
            place: &place,
            options,
            gateway_port,
            api_port,
            report_port,
            sms_port,
            etl_port,
            password: &password,
        };
        let report = report_port.map(|_| recipe.report("migrate", 0)).transpose()?;
        let sms = sms_port.map(|_| recipe.sms("migrate", 0)).transpose()?;
        let etl = etl_port.map(|_| recipe.etl("migrate", 0)).transpose()?;
        let schemas = [recipe.gateway("migrate")?, recipe.catalog("migrate", 0)?];
        try_join_all(schemas.into_iter().chain(report).chain(sms).chain(etl).map(migrate)).await?;

        let gateway = recipe.gateway("api")?.start_unready()?;
        let api = recipe.catalog("api", api_port)?.start_unready()?;
        let workers = (0..options.workers)
            .map(|_| recipe.catalog("worker", ports::free()?)?.start_unready())
            .collect::<Result<Vec<_>>>()?;
        let report = match report_port {
            None => None,
            Some(port) => Some(Processes {
                api: recipe.report("api", port)?.start_unready()?,
                workers: (0..options.report_workers)
                    .map(|_| recipe.report("worker", ports::free()?)?.start_unready())
                    .collect::<Result<Vec<_>>>()?,
                port,
            }),
        };
        let sms = match sms_port {
            None => None,
            Some(port) => Some(Processes {
                api: recipe.sms("api", port)?.start_unready()?,
                workers: vec![recipe.sms("worker", ports::free()?)?.start_unready()?],
                port,
            }),
        };
        let etl = match etl_port {
            None => None,
            Some(port) => Some(Processes {
                api: recipe.etl("api", port)?.start_unready()?,
                workers: (0..options.etl_workers)
                    .map(|_| recipe.etl("worker", ports::free()?)?.start_unready())
                    .collect::<Result<Vec<_>>>()?,
                port,
            }),
        };
        let others = report.iter().chain(&sms).chain(&etl);
        let others = others.flat_map(|service| [&service.api].into_iter().chain(&service.workers));
        for process in [&gateway, &api].into_iter().chain(&workers).chain(others) {
            process.wait_ready().await?;
        }
        Ok(Self { place, gateway, api, workers, report, sms, etl, gateway_port, api_port, password })
    }

    /// The gateway's base URL.
    pub fn gateway_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway_port)
    }

    /// The base URL of catalog-upload's API, which its own clients don't know.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api_port)
    }

    /// The base URL of report's API, where it runs.
    pub fn report_url(&self) -> Option<String> {
        self.report.as_ref().map(|report| format!("http://127.0.0.1:{}", report.port))
    }

    /// The base URL of sms-dispatch's API, where it runs.
    pub fn sms_url(&self) -> Option<String> {
        self.sms.as_ref().map(|sms| format!("http://127.0.0.1:{}", sms.port))
    }

    /// The base URL of etl's API, where it runs.
    pub fn etl_url(&self) -> Option<String> {
        self.etl.as_ref().map(|etl| format!("http://127.0.0.1:{}", etl.port))
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

    /// catalog-upload's tables, for the test itself: not through a proxy.
    ///
    /// # Errors
    /// Where PostgreSQL can't be reached.
    pub async fn catalog(&self) -> Result<PgPool> {
        connect(self.place.catalog_database()).await
    }

    /// report's tables, for the test itself: not through a proxy.
    ///
    /// # Errors
    /// Where PostgreSQL can't be reached.
    pub async fn reports(&self) -> Result<PgPool> {
        connect(self.place.report_database()).await
    }

    /// sms-dispatch's tables, for the test itself: not through a proxy.
    ///
    /// # Errors
    /// Where PostgreSQL can't be reached.
    pub async fn contacts(&self) -> Result<PgPool> {
        connect(self.place.sms_database()).await
    }

    /// etl's own tables, for the test itself: not through a proxy.
    ///
    /// # Errors
    /// Where PostgreSQL can't be reached.
    pub async fn syncs(&self) -> Result<PgPool> {
        connect(self.place.etl_database()).await
    }

    /// Everything that the services' doctors find wrong.
    ///
    /// # Errors
    /// Where a doctor can't be run.
    pub async fn doctor(&self) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        let others =
            self.report.iter().chain(&self.sms).chain(&self.etl).map(|service| service.api.service());
        for service in [self.gateway.service(), self.api.service()].into_iter().chain(others) {
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
    api_port: u16,
    report_port: Option<u16>,
    sms_port: Option<u16>,
    etl_port: Option<u16>,
    password: &'a str,
}

impl Recipe<'_> {
    fn gateway(&self, role: &str) -> Result<Service> {
        let service = Service::new("lote-gateway", &[role], &self.options.dir.join("gateway.log"))?
            .envs(self.place.gateway_environment()?)
            .env("CATALOG_UPLOAD_URL", format!("http://127.0.0.1:{}", self.api_port))
            .env("ADMIN_USER", ADMIN)
            .env("ADMIN_PASSWORD", self.password)
            .env("KEY_ENCRYPTION_SECRET", "a secret of tests, the same over restarts")
            // Sessions over plain HTTP, and no limits that a busy test would meet. What a password hash
            // costs is not the matter here.
            .env("SECURE_COOKIES", "false")
            .env("RATE_LIMIT_AUTH", "100000/60")
            .env("RATE_LIMIT_UPLOAD", "100000/60")
            .env("RATE_LIMIT_DEFAULT", "1000000/60")
            .env("ARGON2_MEMORY_KIB", "1024")
            .env("ARGON2_ITERATIONS", "1");
        let others = [
            ("REPORT_URL", self.report_port),
            ("SMS_DISPATCH_URL", self.sms_port),
            ("ETL_URL", self.etl_port),
        ];
        let urls =
            others.into_iter().filter_map(|(name, port)| Some((name, format!("http://127.0.0.1:{}", port?))));
        Ok(self.common(service.envs(urls), self.gateway_port))
    }

    fn catalog(&self, role: &str, port: u16) -> Result<Service> {
        let name = if role == "worker" { format!("worker-{port}") } else { "catalog-upload".to_owned() };
        let log = self.options.dir.join(format!("{name}.log"));
        let service = Service::new("lote-catalog-upload", &[role], &log)?
            .envs(self.place.catalog_environment()?)
            .env("SPOOL_DIR", self.options.dir.join("spool").display().to_string());
        Ok(self.common(service, port))
    }

    fn report(&self, role: &str, port: u16) -> Result<Service> {
        let name = if role == "worker" { format!("report-worker-{port}") } else { "report".to_owned() };
        let log = self.options.dir.join(format!("{name}.log"));
        let service = Service::new("lote-report", &[role], &log)?.envs(self.place.report_environment()?);
        Ok(self.common(service, port))
    }

    fn sms(&self, role: &str, port: u16) -> Result<Service> {
        let name = if role == "worker" { format!("sms-worker-{port}") } else { "sms-dispatch".to_owned() };
        let log = self.options.dir.join(format!("{name}.log"));
        let service = Service::new("lote-sms-dispatch", &[role], &log)?.envs(self.place.sms_environment()?);
        Ok(self.common(service, port))
    }

    fn etl(&self, role: &str, port: u16) -> Result<Service> {
        let name = if role == "worker" { format!("etl-worker-{port}") } else { "etl".to_owned() };
        let log = self.options.dir.join(format!("{name}.log"));
        let service = Service::new("lote-etl", &[role], &log)?.envs(self.place.etl_environment()?);
        Ok(self.common(service, port))
    }

    fn common(&self, service: Service, port: u16) -> Service {
        let service = service
            .env("HTTP_PORT", port.to_string())
            .env("HTTP_WORKERS", "2")
            .env("JWKS_URL", format!("http://127.0.0.1:{}/.well-known/jwks.json", self.gateway_port))
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))
            .env("LOG_FORMAT", "text")
            .ready_when(&format!("http://127.0.0.1:{port}/health/ready"));
        service.envs(self.options.env.iter().map(|(name, value)| (name, value)))
    }
}
