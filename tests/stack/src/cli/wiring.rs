//! The demo's services, wired to its servers.

use super::state::{BIGQUERY, BSALE, TELNYX};
use anyhow::{Context, Result, ensure};
use stack::process::Service;
use stack::services::{ALL, ETL, GATEWAY, SMS_DISPATCH, Spec};
use stack::{Servers, aws};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The token that the demo's shop knows.
const BSALE_TOKEN: &str = "demo";
/// The key of the demo's account at Telnyx.
const TELNYX_KEY: &str = "demo";
/// What belongs to the key that the simulator of Telnyx signs webhooks with, which is always the same.
const TELNYX_PUBLIC_KEY: &str = "GX9rI+FshTLGq8g4+s1ep4m+DHaykgM0A5v6iz02jWE=";

/// All that the services must be told.
pub struct Wiring {
    /// Where the servers are.
    pub servers: Servers,
    /// Each service's database, as its role.
    pub databases: BTreeMap<&'static str, String>,
    /// The sales database, as its user.
    pub sales_database: String,
    /// Each process's HTTP port.
    pub ports: BTreeMap<String, u16>,
    /// Before every RabbitMQ queue and exchange.
    pub queue_prefix: String,
    /// Before every Redis key.
    pub redis_prefix: String,
    /// Where uploads go.
    pub bucket: String,
    /// The physical name of `catalog.imports`.
    pub imports_queue: String,
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
        self.api_url(&GATEWAY)
    }

    /// The base URL of a service's API.
    pub fn api_url(&self, service: &Spec) -> String {
        self.url(&service.process("api"))
    }

    /// Where a process serves HTTP.
    pub fn url(&self, process: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports.get(process).copied().unwrap_or_default())
    }

    /// What every process of a service is told.
    pub fn environment(&self, service: &Spec) -> Result<Vec<(String, String)>> {
        let database = self.databases.get(service.name);
        let database = database.with_context(|| format!("no database of {}", service.name))?;
        let mut variables: Vec<(String, String)> = [
            ("DATABASE_URL", database.as_str()),
            ("AMQP_URL", &self.servers.amqp_url),
            ("REDIS_URL", &self.servers.redis_url),
            ("REDIS_PREFIX", &self.redis_prefix),
            ("QUEUE_PREFIX", &self.queue_prefix),
            ("AWS_ENDPOINT_URL", &self.servers.aws_endpoint),
            // Not that a process without credentials went looking for them in the network.
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("S3_BUCKET_NAME", &self.bucket),
            ("SQS_QUEUE_NAME", &self.imports_queue),
            ("SQS_CREATE_QUEUES", "true"),
            // A drain waits for the last receive; here somebody watches.
            ("SQS_WAIT_SECONDS", "2"),
            ("HTTP_HOST", "127.0.0.1"),
            ("JWKS_URL", &format!("{}/.well-known/jwks.json", self.gateway_url())),
            ("LOG_FORMAT", "text"),
        ]
        .into_iter()
        .chain(aws::CREDENTIALS)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        if *service == GATEWAY {
            let origins = std::env::var("CORS_ORIGINS").unwrap_or_else(|_| front_ends());
            let others = ALL.into_iter().filter(|other| **other != GATEWAY);
            variables.extend(others.map(|other| (format!("{}_URL", other.variable()), self.api_url(other))));
            variables.extend(
                [
                    ("ADMIN_USER", self.admin_user.as_str()),
                    ("ADMIN_PASSWORD", &self.admin_password),
                    ("KEY_ENCRYPTION_SECRET", &self.key_secret),
                    ("CORS_ORIGINS", &origins),
                    // Plain HTTP on the loopback.
                    ("SECURE_COOKIES", "false"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
        }
        if *service == SMS_DISPATCH {
            variables.extend(
                [
                    ("TELNYX_URL", format!("{}/v2", self.url(TELNYX)).as_str()),
                    ("TELNYX_API_KEY", TELNYX_KEY),
                    ("TELNYX_PUBLIC_KEY", TELNYX_PUBLIC_KEY),
                    ("TELNYX_PARTS_PER_SECOND", "1000"),
                    ("SMS_PUBLIC_URL", &self.gateway_url()),
                    // Nobody gets these messages, at whatever hour.
                    ("SMS_QUIET_HOURS", "false"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
        }
        if *service == ETL {
            variables.extend(
                [
                    ("SALES_DATABASE_URL", self.sales_database.as_str()),
                    ("BSALE_API_URL", &format!("{}/v1", self.url(BSALE))),
                    ("BSALE_API_TOKEN", BSALE_TOKEN),
                    ("BSALE_WEBHOOK_SECRET", "demo-webhooks"),
                    ("BIGQUERY_URL", &self.url(BIGQUERY)),
                    ("BIGQUERY_PROJECT_ID", "demo"),
                    ("BIGQUERY_DATASET", "cobranzas"),
                    ("BIGQUERY_ANONYMOUS", "true"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
        }
        Ok(variables)
    }

    /// The simulator of Bsale.
    pub fn bsale(&self) -> Result<Service> {
        let port = self.ports.get(BSALE).copied().unwrap_or_default().to_string();
        let process =
            Service::new("lote-simulate", &["bsale", &port, BSALE_TOKEN], &self.logs.join("bsale.log"))?;
        Ok(process.ready_when(&format!("{}/health/ready", self.url(BSALE))))
    }

    /// The simulator of BigQuery.
    pub fn bigquery(&self) -> Result<Service> {
        let port = self.ports.get(BIGQUERY).copied().unwrap_or_default().to_string();
        let process = Service::new("lote-simulate", &["bigquery", &port], &self.logs.join("bigquery.log"))?;
        Ok(process.ready_when(&format!("{}/health/ready", self.url(BIGQUERY))))
    }

    /// The simulator of Telnyx.
    pub fn telnyx(&self) -> Result<Service> {
        let port = self.ports.get(TELNYX).copied().unwrap_or_default().to_string();
        let log = self.logs.join("telnyx.log");
        let process = Service::new("lote-simulate", &["telnyx", &port, TELNYX_KEY], &log)?;
        Ok(process.ready_when(&format!("{}/health/ready", self.url(TELNYX))))
    }

    /// The process of a service in a role.
    pub fn process(&self, service: &Spec, role: &str) -> Result<Service> {
        let name = service.process(role);
        let url = self.url(&name);
        let process = Service::new(&service.binary(), &[role], &self.logs.join(format!("{name}.log")))?
            .envs(self.environment(service)?)
            .env("HTTP_PORT", self.ports.get(&name).copied().unwrap_or_default().to_string())
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()))
            .ready_when(&format!("{url}/health/ready"));
        Ok(process)
    }

    /// Brings a service's schema up to date.
    pub async fn migrate(&self, service: &Spec) -> Result<()> {
        let process = self.process(service, "api")?;
        let (status, said) = process.with_args(&["migrate"]).run().await?;
        let log = process.log().display();
        ensure!(status.success(), "{} migrate: {status}\n{said}\nlog: {log}", service.name);
        Ok(())
    }
}

/// Where a front end under development usually is: React, Vite, Angular, and a server of its build.
fn front_ends() -> String {
    let at = |host: &str| [3000, 4200, 5173, 8080].map(|port| format!("http://{host}:{port}"));
    [at("localhost"), at("127.0.0.1")].concat().join(",")
}
