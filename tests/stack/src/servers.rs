//! The set of servers that all tests share.

use crate::server::Durability;
use crate::sets::{Ports, Stack};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;

/// Where the servers are. The URLs carry users and passwords.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Servers {
    /// PostgreSQL, database `lote`, as its superuser.
    pub postgres_url: String,
    /// RabbitMQ.
    pub amqp_url: String,
    /// RabbitMQ's management API.
    pub management_url: String,
    /// Redis.
    pub redis_url: String,
    /// LocalStack: S3 (path style) and SQS. Any credentials do.
    pub aws_endpoint: String,
    /// MariaDB, as its superuser.
    pub mysql_url: String,
}

static SHARED: OnceCell<Servers> = OnceCell::const_new();

/// The servers for tests, started if they don't run. They outlive the test process, so that the next finds
/// them warm; `stack test-down` stops them. `LOTE_TEST_STACK` names the directory of a set that should be used
/// instead of `.stack/test`.
///
/// # Panics
/// Where they can't be started: no test could say anything then.
pub async fn servers() -> &'static Servers {
    SHARED
        .get_or_init(|| async {
            match start_shared().await {
                Ok(servers) => servers,
                Err(error) => panic!("the test servers can't be started: {error:#}"),
            }
        })
        .await
}

/// The directory of the tests' set.
pub fn shared_dir() -> PathBuf {
    std::env::var_os("LOTE_TEST_STACK").map_or_else(|| crate::home().join("test"), PathBuf::from)
}

/// Starts the tests' set if it doesn't run. Many processes may ask at once: one starts, the others wait.
///
/// # Errors
/// Where a server won't start.
pub async fn start_shared() -> Result<Servers> {
    let _lock = lock(&shared_dir()).await?;
    let stack = open_shared()?;
    stack.start_all().await?;
    Ok(stack.servers())
}

/// Stops the tests' set and removes its data.
///
/// # Errors
/// Where a server won't stop.
pub async fn remove_shared() -> Result<()> {
    let _lock = lock(&shared_dir()).await?;
    open_shared()?.remove().await
}

fn open_shared() -> Result<Stack> {
    // Nobody kills these servers, and hundreds of small tests commit: no need to wait for the disk.
    Stack::open(&shared_dir(), &Ports::free()?, Durability::None)
}

/// Takes the lock beside `dir` until the file is dropped.
///
/// # Errors
/// Where the lock file can't be made.
pub async fn lock(dir: &Path) -> Result<File> {
    let path = dir.with_extension("lock");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = File::options().create(true).append(true).open(&path).context("open the lock file")?;
    let file = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await??;
    Ok(file)
}
