//! The servers. Each is a value that starts, kills, stops and restarts one private instance, on a port
//! and with data that stay the same over restarts.

mod localstack;
mod mariadb;
mod postgres;
mod rabbit;
mod redis;

pub use localstack::LocalStack;
pub use mariadb::{MariaDb, create_database, drop_database};
pub use postgres::{Durability, Postgres};
pub use rabbit::{Ports as RabbitPorts, RABBITMQCTL, Rabbit};
pub use redis::Redis;

use crate::daemon::Daemon;
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a server may take to start. Seconds, on a machine that does nothing else.
const START: Duration = Duration::from_secs(180);

/// How long a server may take to stop in good order, before it is killed.
const STOP: Duration = Duration::from_secs(30);

/// What they have in common: a directory with a log, and at most one process.
#[derive(Debug)]
struct Instance {
    dir: PathBuf,
    process: Mutex<Option<Daemon>>,
}

impl Instance {
    /// The instance in `dir`, with its process if one runs already.
    fn at(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let instance = Self { dir: dir.to_path_buf(), process: Mutex::new(None) };
        instance.set(Daemon::recorded(&instance.pid_file(), &instance.log()));
        Ok(instance)
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.join("process")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn set(&self, daemon: Option<Daemon>) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = daemon;
    }

    /// The process, if it runs.
    fn running(&self) -> Option<Daemon> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).clone();
        process.filter(Daemon::is_running)
    }

    /// Sends the process and its group a deadly signal, and forgets it.
    fn abandon(&self, signal: Signal) {
        if let Some(daemon) = self.running() {
            daemon.signal_group(signal);
        }
        self.set(None);
    }

    fn spawn(&self, command: std::process::Command) -> Result<Daemon> {
        let daemon = Daemon::spawn(command, &self.log())?;
        daemon.record(&self.pid_file())?;
        self.set(Some(daemon.clone()));
        Ok(daemon)
    }
}

/// Whether something accepts connections on this port of 127.0.0.1.
async fn accepts(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
}

/// Writes a file that only its owner may read: it holds a password.
///
/// # Errors
/// Where it can't be written.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
