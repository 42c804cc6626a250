//! The demo's services, wired to its servers.

use anyhow::{Result, ensure};
use stack::process::Service;
use stack::{Servers, aws};
use std::path::PathBuf;

/// All that the services must be told.
pub struct Wiring {
    /// Where the servers are.
    pub servers: Servers,
    /// The gateway's database, as its role.
    pub gateway_database: String,
    /// catalog-upload's database, as its role.
    pub catalog_database: String,
    /// report's database, as its role.
    pub report_database: String,
    /// sms-dispatch's database, as its role.
    pub sms_database: String,
    /// Before every RabbitMQ queue and exchange.
    pub queue_prefix: String,
    /// Before every Redis key.
    pub redis_prefix: String,
    /// Where uploads go.
    pub bucket: String,
    /// The physical name of `catalog.imports`.
    pub imports_queue: String,
    /// The gateway's HTTP port.
    pub gateway_port: u16,
    /// The HTTP port of catalog-upload's api.
    pub api_port: u16,
    /// The HTTP port of catalog-upload's worker (health and metrics).
    pub worker_port: u16,
    /// The HTTP port of report's api.
    pub report_api_port: u16,
    /// The HTTP port of report's worker (health and metrics).
    pub report_worker_port: u16,
    /// The HTTP port of sms-dispatch's api.
    pub sms_api_port: u16,
    /// The HTTP port of sms-dispatch's worker (health and metrics).
    pub sms_worker_port: u16,
    /// The first administrator.
    pub admin_user: String,
    /// Its password.
    pub admin_password: String,
    /// What the gateway encrypts its signing keys with.
    pub key_secret: String,
    /// A directory for the processes' logs.
    pub logs: PathBuf,
}

impl Wiring {
    /// The gateway's base URL.
    pub fn gateway_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.gateway_port)
    }

    /// The base URL of catalog-upload's api.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api_port)
    }

    /// The base URL of catalog-upload's worker.
    pub fn worker_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.worker_port)
    }

    /// The base URL of report's api.
    pub fn report_api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.report_api_port)
    }

    /// The base URL of report's worker.
    pub fn report_worker_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.report_worker_port)
    }

    /// The base URL of sms-dispatch's api.
    pub fn sms_api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.sms_api_port)
    }

    /// The base URL of sms-dispatch's worker.
    pub fn sms_worker_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.sms_worker_port)
    }

    fn service(&self, name: &str, binary: &str, role: &str, database: &str, port: u16) -> Result<Service> {
        let service = Service::new(binary, &[role], &self.logs.join(format!("{name}.log")))?
            .env("DATABASE_URL", database)
            .env("AMQP_URL", &self.servers.amqp_url)
            .env("REDIS_URL", &self.servers.redis_url)
            .env("REDIS_PREFIX", &self.redis_prefix)
            .env("QUEUE_PREFIX", &self.queue_prefix)
            .env("AWS_ENDPOINT_URL", &self.servers.aws_endpoint)
            .envs(aws::CREDENTIALS)
            // Not that a process without credentials went looking for them in the network.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("S3_BUCKET_NAME", &self.bucket)
            .env("SQS_QUEUE_NAME", &self.imports_queue)
            .env("SQS_CREATE_QUEUES", "true")
            // A drain waits for the last receive; here somebody watches.
            .env("SQS_WAIT_SECONDS", "2")
            .env("HTTP_HOST", "127.0.0.1")
            .env("HTTP_PORT", port.to_string())
            .env("JWKS_URL", format!("{}/.well-known/jwks.json", self.gateway_url()))
            .env("LOG_FORMAT", "text")
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))
            .ready_when(&format!("http://127.0.0.1:{port}/health/ready"));
        Ok(service)
    }

    /// The gateway.
    pub fn gateway(&self) -> Result<Service> {
        let service =
            self.service("gateway", "lote-gateway", "api", &self.gateway_database, self.gateway_port)?;
        Ok(service
            .env("CATALOG_UPLOAD_URL", self.api_url())
            .env("REPORT_URL", self.report_api_url())
            .env("SMS_DISPATCH_URL", self.sms_api_url())
            .env("ADMIN_USER", &self.admin_user)
            .env("ADMIN_PASSWORD", &self.admin_password)
            .env("KEY_ENCRYPTION_SECRET", &self.key_secret)
            .env("CORS_ORIGINS", std::env::var("CORS_ORIGINS").unwrap_or_else(|_| front_ends()))
            // Plain HTTP on the loopback.
            .env("SECURE_COOKIES", "false"))
    }

    /// catalog-upload's api.
    pub fn catalog_api(&self) -> Result<Service> {
        self.service(
            "catalog-upload-api",
            "lote-catalog-upload",
            "api",
            &self.catalog_database,
            self.api_port,
        )
    }

    /// catalog-upload's worker.
    pub fn catalog_worker(&self) -> Result<Service> {
        self.service(
            "catalog-upload-worker",
            "lote-catalog-upload",
            "worker",
            &self.catalog_database,
            self.worker_port,
        )
    }

    /// report's api.
    pub fn report_api(&self) -> Result<Service> {
        self.service("report-api", "lote-report", "api", &self.report_database, self.report_api_port)
    }

    /// report's worker.
    pub fn report_worker(&self) -> Result<Service> {
        self.service("report-worker", "lote-report", "worker", &self.report_database, self.report_worker_port)
    }

    /// sms-dispatch's api.
    pub fn sms_api(&self) -> Result<Service> {
        self.service("sms-dispatch-api", "lote-sms-dispatch", "api", &self.sms_database, self.sms_api_port)
    }

    /// sms-dispatch's worker.
    pub fn sms_worker(&self) -> Result<Service> {
        let (name, port) = ("sms-dispatch-worker", self.sms_worker_port);
        self.service(name, "lote-sms-dispatch", "worker", &self.sms_database, port)
    }

    /// Brings sms-dispatch's schema up to date.
    pub async fn migrate_sms(&self) -> Result<()> {
        migrate(&self.sms_api()?).await
    }

    /// Brings report's schema up to date.
    pub async fn migrate_report(&self) -> Result<()> {
        migrate(&self.report_api()?).await
    }

    /// Brings the gateway's schema up to date.
    pub async fn migrate_gateway(&self) -> Result<()> {
        migrate(&self.gateway()?).await
    }

    /// Brings catalog-upload's schema up to date.
    pub async fn migrate_catalog(&self) -> Result<()> {
        migrate(&self.catalog_api()?).await
    }
}

/// Runs a service's `migrate`.
async fn migrate(service: &Service) -> Result<()> {
    let (status, said) = service.with_args(&["migrate"]).run().await?;
    ensure!(status.success(), "migrate: {status}\n{said}\nlog: {}", service.log().display());
    Ok(())
}

/// Where a front end under development usually is: React, Vite, Angular, and a server of its build.
fn front_ends() -> String {
    let at = |host: &str| [3000, 4200, 5173, 8080].map(|port| format!("http://{host}:{port}"));
    [at("localhost"), at("127.0.0.1")].concat().join(",")
}
