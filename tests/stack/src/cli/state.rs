//! What the demo remembers between two commands: under `.stack/demo`, readable by its owner only.

use super::wiring::Wiring;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use stack::daemon::Daemon;
use stack::process::Service;
use stack::server::{Durability, write_secret};
use stack::sets::{Ports, Stack};
use stack::{home, ports, random_hex};
use std::fs;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// Chosen the first time, the same ever after.
#[derive(Serialize, Deserialize)]
struct Memory {
    gateway_port: u16,
    api_port: u16,
    worker_port: u16,
    gateway_password: String,
    catalog_password: String,
    admin_password: String,
    key_secret: String,
    // A stack that was made before there were reports lacks these.
    #[serde(default = "report_api_port")]
    report_api_port: u16,
    #[serde(default = "report_worker_port")]
    report_worker_port: u16,
    #[serde(default = "new_password")]
    report_password: String,
    // And one that was made before there were contacts, these.
    #[serde(default = "sms_api_port")]
    sms_api_port: u16,
    #[serde(default = "sms_worker_port")]
    sms_worker_port: u16,
    #[serde(default = "new_password")]
    sms_password: String,
    // And one that was made before there were syncs, these.
    #[serde(default = "etl_api_port")]
    etl_api_port: u16,
    #[serde(default = "etl_worker_port")]
    etl_worker_port: u16,
    #[serde(default = "bsale_port")]
    bsale_port: u16,
    #[serde(default = "new_password")]
    etl_password: String,
    #[serde(default = "new_password")]
    sales_password: String,
}

const fn etl_api_port() -> u16 {
    26304
}

const fn etl_worker_port() -> u16 {
    26314
}

const fn bsale_port() -> u16 {
    26400
}

const fn report_api_port() -> u16 {
    26302
}

const fn report_worker_port() -> u16 {
    26312
}

const fn sms_api_port() -> u16 {
    26303
}

const fn sms_worker_port() -> u16 {
    26313
}

fn new_password() -> String {
    random_hex(16)
}

impl Memory {
    fn new() -> Self {
        Self {
            gateway_port: 26001,
            api_port: 26301,
            worker_port: 26311,
            gateway_password: random_hex(16),
            catalog_password: random_hex(16),
            admin_password: random_hex(8),
            key_secret: random_hex(32),
            report_api_port: report_api_port(),
            report_worker_port: report_worker_port(),
            report_password: new_password(),
            sms_api_port: sms_api_port(),
            sms_worker_port: sms_worker_port(),
            sms_password: new_password(),
            etl_api_port: etl_api_port(),
            etl_worker_port: etl_worker_port(),
            bsale_port: bsale_port(),
            etl_password: new_password(),
            sales_password: new_password(),
        }
    }
}

/// The demo's servers and how its services are wired.
pub struct Demo {
    /// The servers.
    pub stack: Stack,
    /// The services' settings.
    pub wiring: Wiring,
    /// The password of role `gateway`.
    pub gateway_password: String,
    /// The password of role `catalog_upload`.
    pub catalog_password: String,
    /// The password of role `report`.
    pub report_password: String,
    /// The password of role `sms_dispatch`.
    pub sms_password: String,
    /// The password of role `etl`.
    pub etl_password: String,
    /// The password of the sales database's user.
    pub sales_password: String,
}

impl Demo {
    /// Where all of it is.
    pub fn dir() -> PathBuf {
        home().join("demo")
    }

    /// Whether there ever was one.
    pub fn exists() -> bool {
        Self::dir().join("services.json").exists()
    }

    /// As remembered, or new. A port that somebody took while its process was down is replaced.
    pub fn open() -> Result<Self> {
        let dir = Self::dir();
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        let stack = Stack::open(&dir, &Ports::demo(), Durability::Full)?;

        let file = dir.join("services.json");
        let mut memory = match fs::read_to_string(&file) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))?,
            Err(_) => Memory::new(),
        };
        for (name, port) in [
            ("gateway", &mut memory.gateway_port),
            ("catalog-upload-api", &mut memory.api_port),
            ("catalog-upload-worker", &mut memory.worker_port),
            ("report-api", &mut memory.report_api_port),
            ("report-worker", &mut memory.report_worker_port),
            ("sms-dispatch-api", &mut memory.sms_api_port),
            ("sms-dispatch-worker", &mut memory.sms_worker_port),
            ("etl-api", &mut memory.etl_api_port),
            ("etl-worker", &mut memory.etl_worker_port),
            ("bsale", &mut memory.bsale_port),
        ] {
            if running(name).is_none() {
                *port = ports::free_or(*port)?;
            }
        }
        write_secret(&file, &serde_json::to_string_pretty(&memory)?)?;

        let wiring = Wiring {
            servers: stack.servers(),
            gateway_database: stack.postgres.url_of("gateway", &memory.gateway_password),
            catalog_database: stack.postgres.url_of("catalog_upload", &memory.catalog_password),
            report_database: stack.postgres.url_of("report", &memory.report_password),
            sms_database: stack.postgres.url_of("sms_dispatch", &memory.sms_password),
            etl_database: stack.postgres.url_of("etl", &memory.etl_password),
            sales_database: stack.mariadb.url_of("sales", &memory.sales_password),
            bsale_port: memory.bsale_port,
            etl_api_port: memory.etl_api_port,
            etl_worker_port: memory.etl_worker_port,
            queue_prefix: String::new(),
            redis_prefix: "lote:".to_owned(),
            bucket: "medisupply-bulk-uploads".to_owned(),
            imports_queue: "medisupply-bulk-upload-queue".to_owned(),
            gateway_port: memory.gateway_port,
            api_port: memory.api_port,
            worker_port: memory.worker_port,
            report_api_port: memory.report_api_port,
            report_worker_port: memory.report_worker_port,
            sms_api_port: memory.sms_api_port,
            sms_worker_port: memory.sms_worker_port,
            admin_user: "admin".to_owned(),
            admin_password: memory.admin_password.clone(),
            key_secret: memory.key_secret.clone(),
            logs,
        };
        let Memory { gateway_password, catalog_password, report_password, sms_password, .. } = memory;
        let Memory { etl_password, sales_password, .. } = memory;
        Ok(Self {
            stack,
            wiring,
            gateway_password,
            catalog_password,
            report_password,
            sms_password,
            etl_password,
            sales_password,
        })
    }

    /// The services, in the order of the request's way, with where each serves.
    pub fn services(&self) -> Result<[(&'static str, String, Service); 9]> {
        let wiring = &self.wiring;
        Ok([
            ("gateway", wiring.gateway_url(), wiring.gateway()?),
            ("catalog-upload-api", wiring.api_url(), wiring.catalog_api()?),
            ("catalog-upload-worker", wiring.worker_url(), wiring.catalog_worker()?),
            ("report-api", wiring.report_api_url(), wiring.report_api()?),
            ("report-worker", wiring.report_worker_url(), wiring.report_worker()?),
            ("sms-dispatch-api", wiring.sms_api_url(), wiring.sms_api()?),
            ("sms-dispatch-worker", wiring.sms_worker_url(), wiring.sms_worker()?),
            ("etl-api", wiring.etl_api_url(), wiring.etl_api()?),
            ("etl-worker", wiring.etl_worker_url(), wiring.etl_worker()?),
        ])
    }

    /// The servers: name, address, whether its process runs, log.
    pub fn servers(&self) -> [(&'static str, u16, bool, PathBuf); 5] {
        let Stack { postgres, rabbit, redis, localstack, mariadb, .. } = &self.stack;
        let log = |name: &str| Self::dir().join(name).join("log");
        [
            ("postgres", postgres.port(), postgres.is_running(), log("postgres")),
            ("rabbitmq", rabbit.port(), rabbit.is_running(), log("rabbit")),
            ("redis", redis.port(), redis.is_running(), log("redis")),
            ("localstack", localstack.port(), localstack.is_running(), log("localstack")),
            ("mariadb", mariadb.port(), mariadb.is_running(), log("mariadb")),
        ]
    }
}

/// The names of the services, without asking whether they are built.
pub const SERVICES: [&str; 9] = [
    "gateway",
    "catalog-upload-api",
    "catalog-upload-worker",
    "report-api",
    "report-worker",
    "sms-dispatch-api",
    "sms-dispatch-worker",
    "etl-api",
    "etl-worker",
];

/// Where a service's output goes.
pub fn log_file(name: &str) -> PathBuf {
    Demo::dir().join("logs").join(format!("{name}.log"))
}

/// The process of a service, if it runs.
pub fn running(name: &str) -> Option<Daemon> {
    Daemon::recorded(&process_file(name), &log_file(name))
}

/// Remembers the process of a service, and from what it was started.
pub fn remember(name: &str, daemon: &Daemon, service: &Service) -> Result<()> {
    write_secret(&version_file(name), &version(service)?)?;
    daemon.record(&process_file(name))
}

/// Whether the running process is what would be started now: same binary, same settings.
pub fn is_current(name: &str, service: &Service) -> Result<bool> {
    Ok(fs::read_to_string(version_file(name)).is_ok_and(|text| version(service).is_ok_and(|now| now == text)))
}

fn version(service: &Service) -> Result<String> {
    let binary = fs::metadata(service.binary())?;
    let built = binary.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
    Ok(format!("{built} {} {:?} {:?}", binary.len(), service.args(), service.environment()))
}

fn process_file(name: &str) -> PathBuf {
    Demo::dir().join("logs").join(format!("{name}.process"))
}

fn version_file(name: &str) -> PathBuf {
    Demo::dir().join("logs").join(format!("{name}.version"))
}
