//! What the demo remembers between two commands: under `.stack/demo`, readable by its owner only.

use super::wiring::Wiring;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use stack::daemon::Daemon;
use stack::process::Service;
use stack::server::{Durability, write_secret};
use stack::services::ALL;
use stack::sets::{Ports, Stack};
use stack::{home, ports, random_hex};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// The process of Bsale's simulator.
pub const BSALE: &str = "bsale";
const BSALE_PORT: u16 = 26400;
/// The simulator of BigQuery.
pub const BIGQUERY: &str = "bigquery";
const BIGQUERY_PORT: u16 = 26410;
/// The simulator of Telnyx.
pub const TELNYX: &str = "telnyx";
const TELNYX_PORT: u16 = 26420;

/// Chosen the first time, the same ever after.
#[derive(Serialize, Deserialize)]
struct Memory {
    admin_password: String,
    key_secret: String,
    /// The password of each service's role in PostgreSQL. A service that is new to this demo gets one.
    #[serde(default)]
    passwords: BTreeMap<String, String>,
    /// Each process's HTTP port.
    #[serde(default)]
    ports: BTreeMap<String, u16>,
    /// The password of the sales database's user.
    #[serde(default = "new_password")]
    sales_password: String,
}

fn new_password() -> String {
    random_hex(16)
}

impl Memory {
    fn new() -> Self {
        Self {
            admin_password: random_hex(8),
            key_secret: random_hex(32),
            passwords: BTreeMap::new(),
            ports: BTreeMap::new(),
            sales_password: new_password(),
        }
    }

    /// Adds what is not there yet. A port that somebody took while its process was down is replaced.
    fn complete(&mut self) -> Result<()> {
        for (name, port) in [(BSALE, BSALE_PORT), (BIGQUERY, BIGQUERY_PORT), (TELNYX, TELNYX_PORT)] {
            let simulator = self.ports.entry(name.to_owned()).or_insert(port);
            if running(name).is_some() {
                continue;
            }
            *simulator = ports::free_or(*simulator)?;
        }
        for service in ALL {
            self.passwords.entry(service.name.to_owned()).or_insert_with(new_password);
            for (_, process, port) in service.processes() {
                let runs = running(&process).is_some();
                let port = self.ports.entry(process).or_insert(port);
                if !runs {
                    *port = ports::free_or(*port)?;
                }
            }
        }
        Ok(())
    }
}

/// The demo's servers and how its services are wired.
pub struct Demo {
    /// The servers.
    pub stack: Stack,
    /// The services' settings.
    pub wiring: Wiring,
    /// The password of each service's role in PostgreSQL.
    pub passwords: BTreeMap<String, String>,
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
        memory.complete()?;
        write_secret(&file, &serde_json::to_string_pretty(&memory)?)?;

        let databases = ALL.into_iter().filter_map(|service| {
            let password = memory.passwords.get(service.name)?;
            Some((service.name, stack.postgres.url_of(&service.schema(), password)))
        });
        let databases = databases.collect();
        let wiring = Wiring {
            servers: stack.servers(),
            databases,
            sales_database: stack.mariadb.url_of("sales", &memory.sales_password),
            ports: memory.ports,
            queue_prefix: String::new(),
            redis_prefix: "lote:".to_owned(),
            bucket: "medisupply-bulk-uploads".to_owned(),
            imports_queue: "medisupply-bulk-upload-queue".to_owned(),
            admin_user: "admin".to_owned(),
            admin_password: memory.admin_password,
            key_secret: memory.key_secret,
            logs,
        };
        Ok(Self { stack, wiring, passwords: memory.passwords, sales_password: memory.sales_password })
    }

    /// All processes, the simulators first and then the services in the order of a request's way, with where each
    /// serves.
    pub fn services(&self) -> Result<Vec<(String, String, Service)>> {
        let roles = ALL.into_iter().flat_map(|service| service.processes().map(move |role| (service, role)));
        let services = roles.map(|(service, (role, name, _))| {
            let url = self.wiring.url(&name);
            Ok((name, url, self.wiring.process(service, role)?))
        });
        let simulators = [
            Ok((BSALE.to_owned(), self.wiring.url(BSALE), self.wiring.bsale()?)),
            Ok((BIGQUERY.to_owned(), self.wiring.url(BIGQUERY), self.wiring.bigquery()?)),
            Ok((TELNYX.to_owned(), self.wiring.url(TELNYX), self.wiring.telnyx()?)),
        ];
        simulators.into_iter().chain(services).collect()
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

/// The names of all processes.
pub fn process_names() -> impl Iterator<Item = String> {
    [BSALE, BIGQUERY, TELNYX].map(str::to_owned).into_iter().chain(stack::services::process_names())
}

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
