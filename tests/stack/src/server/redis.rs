use super::{Instance, START, STOP, accepts, write_secret};
use anyhow::Result;
use rustix::process::Signal;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A private Redis.
///
/// It keeps nothing over a restart (no snapshot, no append-only file): Lote uses Redis as a cache and as a
/// live feed, the truth is in PostgreSQL, and a kill should show whether that holds.
#[derive(Debug)]
pub struct Redis {
    instance: Instance,
    port: u16,
    password: String,
}

impl Redis {
    /// The instance in `dir`; starts nothing.
    ///
    /// # Errors
    /// Where `dir` can't be made.
    pub fn at(dir: &Path, port: u16, password: &str) -> Result<Self> {
        Ok(Self { instance: Instance::at(dir)?, port, password: password.to_owned() })
    }

    /// `redis://…`
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.instance.running().is_some()
    }

    /// Starts it, unless it runs, and waits until it answers.
    ///
    /// # Errors
    /// Where it doesn't, with its log.
    pub async fn start(&self) -> Result<()> {
        let daemon = match self.instance.running() {
            Some(daemon) => daemon,
            None => {
                let dir = self.instance.dir.display();
                let (port, password) = (self.port, &self.password);
                let file = self.instance.dir.join("redis.conf");
                write_secret(
                    &file,
                    &format!(
                        "bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir \"{dir}\"\nsave \"\"\nappendonly no\n"
                    ),
                )?;
                let mut command = Command::new("redis-server");
                command.arg(&file);
                self.instance.spawn(command)?
            }
        };
        daemon.wait_ready("Redis should answer", START, async || self.answers().await).await
    }

    /// Kills it: SIGKILL.
    ///
    /// # Errors
    /// Where it won't go.
    pub async fn kill(&self) -> Result<()> {
        match self.instance.running() {
            Some(daemon) => daemon.kill().await,
            None => Ok(()),
        }
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// Where it won't go.
    pub async fn stop(&self) -> Result<()> {
        let Some(daemon) = self.instance.running() else { return Ok(()) };
        daemon.signal(Signal::TERM);
        match daemon.gone(STOP).await {
            Ok(()) => Ok(()),
            Err(_) => daemon.kill().await,
        }
    }

    /// Kills it without waiting.
    pub(crate) fn abandon(&self) {
        self.instance.abandon(Signal::KILL);
    }

    /// Kills and starts it.
    ///
    /// # Errors
    /// As [`Redis::kill`] and [`Redis::start`].
    pub async fn restart(&self) -> Result<()> {
        self.kill().await?;
        self.start().await
    }

    /// Whether it answers a PING.
    pub async fn answers(&self) -> bool {
        if !accepts(self.port).await {
            return false;
        }
        let ask = async {
            let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
            connection.write_all(format!("AUTH {}\r\nPING\r\nQUIT\r\n", self.password).as_bytes()).await?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer.contains("+PONG"))
        };
        ask.await.unwrap_or(false)
    }
}
