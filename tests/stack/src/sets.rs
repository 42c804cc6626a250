//! The servers together.

use crate::ports;
use crate::server::{Durability, LocalStack, MariaDb, Postgres, Rabbit, RabbitPorts, Redis, write_secret};
use crate::servers::Servers;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// The ports of a set, chosen once: they stay the same over restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ports {
    postgres: u16,
    rabbit: RabbitPorts,
    redis: u16,
    localstack: u16,
    // A set that was made before there was one lacks it.
    #[serde(default = "mariadb_port")]
    mariadb: u16,
}

const fn mariadb_port() -> u16 {
    26306
}

impl Ports {
    /// Ports that nobody listens on.
    ///
    /// # Errors
    /// Where there are none.
    pub fn free() -> Result<Self> {
        Ok(Self {
            postgres: ports::free()?,
            rabbit: RabbitPorts {
                amqp: ports::free()?,
                management: ports::free()?,
                prometheus: ports::free()?,
                distribution: ports::free()?,
                epmd: ports::free()?,
            },
            redis: ports::free()?,
            localstack: ports::free()?,
            mariadb: ports::free()?,
        })
    }

    /// The demo's ports: easy to remember, out of the way of servers on default ports.
    pub fn demo() -> Self {
        Self {
            postgres: 26432,
            rabbit: RabbitPorts {
                amqp: 26672,
                management: 26673,
                prometheus: 26692,
                distribution: 26674,
                epmd: 26369,
            },
            redis: 26379,
            localstack: 26566,
            mariadb: mariadb_port(),
        }
    }
}

/// What a set must remember: its ports and the passwords its servers were made with.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    ports: Ports,
    postgres_password: String,
    rabbit_password: String,
    redis_password: String,
    #[serde(default = "new_password")]
    mariadb_password: String,
}

fn new_password() -> String {
    crate::random_hex(16)
}

/// PostgreSQL, RabbitMQ, Redis, LocalStack and MariaDB, private, on 127.0.0.1, with their data in one directory.
#[derive(Debug)]
pub struct Stack {
    dir: PathBuf,
    /// PostgreSQL.
    pub postgres: Postgres,
    /// RabbitMQ.
    pub rabbit: Rabbit,
    /// Redis.
    pub redis: Redis,
    /// S3 and SQS.
    pub localstack: LocalStack,
    /// MariaDB.
    pub mariadb: MariaDb,
    /// Whether the servers are killed when this value goes.
    ephemeral: bool,
}

impl Stack {
    /// A set of one's own in `dir`, started and ready, as durable as in production. Its servers are killed
    /// when the value is dropped; the data stays.
    ///
    /// # Errors
    /// Where one of the servers won't start.
    pub async fn start(dir: &Path) -> Result<Self> {
        let mut stack = Self::open(dir, &Ports::free()?, Durability::Full)?;
        stack.ephemeral = true;
        stack.start_all().await?;
        Ok(stack)
    }

    /// A set of one's own in `dir` of which RabbitMQ alone runs, for what would disturb others on a shared node.
    ///
    /// # Errors
    /// Where RabbitMQ won't start.
    pub async fn start_rabbit(dir: &Path) -> Result<Self> {
        let mut stack = Self::open(dir, &Ports::free()?, Durability::Full)?;
        stack.ephemeral = true;
        stack.rabbit.start().await?;
        Ok(stack)
    }

    /// The set in `dir`, running or not; the first time with the given ports. A port that somebody else
    /// took while its server was down is replaced by another.
    ///
    /// # Errors
    /// Where its files can't be read or written.
    pub fn open(dir: &Path, wanted: &Ports, durability: Durability) -> Result<Self> {
        crate::install_tls();
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let file = dir.join("servers.json");
        let mut lacks = false;
        let mut memory: Memory = match fs::read_to_string(&file) {
            Ok(text) => {
                lacks = !text.contains("mariadb_password");
                serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))?
            }
            Err(_) => Memory {
                ports: wanted.clone(),
                postgres_password: crate::random_hex(16),
                rabbit_password: crate::random_hex(16),
                redis_password: crate::random_hex(16),
                mariadb_password: new_password(),
            },
        };
        let stack = Self::with(dir, &memory, durability)?;
        if !stack.replace_taken_ports(&mut memory.ports)? && file.exists() && !lacks {
            return Ok(stack);
        }
        write_secret(&file, &serde_json::to_string_pretty(&memory)?)?;
        Self::with(dir, &memory, durability)
    }

    fn with(dir: &Path, memory: &Memory, durability: Durability) -> Result<Self> {
        let ports = &memory.ports;
        Ok(Self {
            dir: dir.to_path_buf(),
            postgres: Postgres::at(
                &dir.join("postgres"),
                ports.postgres,
                &memory.postgres_password,
                durability,
            )?,
            rabbit: Rabbit::at(&dir.join("rabbit"), ports.rabbit, &memory.rabbit_password)?,
            redis: Redis::at(&dir.join("redis"), ports.redis, &memory.redis_password)?,
            localstack: LocalStack::at(&dir.join("localstack"), ports.localstack)?,
            mariadb: MariaDb::at(
                &dir.join("mariadb"),
                ports.mariadb,
                &memory.mariadb_password,
                durability == Durability::Full,
            )?,
            ephemeral: false,
        })
    }

    /// Returns whether anything changed.
    fn replace_taken_ports(&self, ports: &mut Ports) -> Result<bool> {
        let mut mine: Vec<&mut u16> = Vec::new();
        if !self.postgres.is_running() {
            mine.push(&mut ports.postgres);
        }
        if !self.redis.is_running() {
            mine.push(&mut ports.redis);
        }
        if !self.localstack.is_running() {
            mine.push(&mut ports.localstack);
        }
        if !self.mariadb.is_running() {
            mine.push(&mut ports.mariadb);
        }
        if !self.rabbit.is_running() {
            let rabbit = &mut ports.rabbit;
            mine.extend([
                &mut rabbit.amqp,
                &mut rabbit.management,
                &mut rabbit.prometheus,
                &mut rabbit.distribution,
            ]);
            // The port mapper may have outlived its node, and then it is ours.
            if !self.rabbit.epmd_is_running() {
                mine.push(&mut rabbit.epmd);
            }
        }
        let mut changed = false;
        for port in mine {
            let usable = ports::free_or(*port)?;
            changed |= usable != *port;
            *port = usable;
        }
        Ok(changed)
    }

    /// Starts what doesn't run, all at once, and waits until all are ready.
    ///
    /// # Errors
    /// Where one won't start.
    pub async fn start_all(&self) -> Result<()> {
        tokio::try_join!(
            async { self.postgres.start().await.context("PostgreSQL") },
            async { self.rabbit.start().await.context("RabbitMQ") },
            async { self.redis.start().await.context("Redis") },
            async { self.localstack.start().await.context("LocalStack") },
            async { self.mariadb.start().await.context("MariaDB") },
        )?;
        Ok(())
    }

    /// Stops all in good order.
    ///
    /// # Errors
    /// Where one won't go.
    pub async fn stop_all(&self) -> Result<()> {
        let (postgres, rabbit, redis, localstack, mariadb) = tokio::join!(
            self.postgres.stop(),
            self.rabbit.stop(),
            self.redis.stop(),
            self.localstack.stop(),
            self.mariadb.stop()
        );
        postgres.and(rabbit).and(redis).and(localstack).and(mariadb)
    }

    /// Kills all at once, as a power cut would.
    ///
    /// # Errors
    /// Where one won't go.
    pub async fn kill_all(&self) -> Result<()> {
        let (postgres, rabbit, redis, localstack, mariadb) = tokio::join!(
            self.postgres.kill(),
            self.rabbit.kill(),
            self.redis.kill(),
            self.localstack.kill(),
            self.mariadb.kill()
        );
        postgres.and(rabbit).and(redis).and(localstack).and(mariadb)
    }

    /// Whether all run.
    pub fn is_running(&self) -> bool {
        self.postgres.is_running()
            && self.rabbit.is_running()
            && self.redis.is_running()
            && self.localstack.is_running()
            && self.mariadb.is_running()
    }

    /// Where to reach them.
    pub fn servers(&self) -> Servers {
        Servers {
            postgres_url: self.postgres.url(),
            amqp_url: self.rabbit.url(),
            management_url: self.rabbit.management_url(),
            redis_url: self.redis.url(),
            aws_endpoint: self.localstack.url(),
            mysql_url: self.mariadb.url(),
        }
    }

    /// Stops all and removes their data.
    ///
    /// # Errors
    /// Where a server won't go or a file can't be removed.
    pub async fn remove(self) -> Result<()> {
        self.stop_all().await?;
        self.postgres.remove_data()?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.ephemeral {
            self.postgres.abandon();
            self.rabbit.abandon();
            self.redis.abandon();
            self.localstack.abandon();
            self.mariadb.abandon();
        }
    }
}
