use super::{Instance, START, STOP, write_secret};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use sea_orm::sqlx::{Connection, PgConnection};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};

/// Whether a commit survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As in production: what is committed is on disk.
    Full,
    /// Nothing is flushed: several times as fast where many small tests commit, for a server that nobody kills.
    None,
}

/// A private PostgreSQL with the database `lote`.
#[derive(Debug)]
pub struct Postgres {
    instance: Instance,
    port: u16,
    password: String,
    durability: Durability,
}

impl Postgres {
    /// The instance in `dir`; starts nothing. Its superuser is `postgres`.
    ///
    /// # Errors
    /// Where `dir` can't be made.
    pub fn at(dir: &Path, port: u16, password: &str, durability: Durability) -> Result<Self> {
        Ok(Self { instance: Instance::at(dir)?, port, password: password.to_owned(), durability })
    }

    /// The superuser's `postgres://…` to the database `lote`.
    pub fn url(&self) -> String {
        self.url_of("postgres", &self.password)
    }

    /// A role's `postgres://…` to the database `lote`.
    pub fn url_of(&self, role: &str, password: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}/lote", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.instance.running().is_some()
    }

    /// Starts it, unless it runs, and waits until it takes connections (after a kill: until it has
    /// recovered). The first time it makes the cluster and the database.
    ///
    /// # Errors
    /// Where that fails, with its log.
    pub async fn start(&self) -> Result<()> {
        let daemon = match self.instance.running() {
            Some(daemon) => daemon,
            None => {
                let data = self.data()?;
                let mut command = self.as_postgres("postgres")?;
                command.arg("-D").arg(&data).args(["-p", &self.port.to_string()]);
                for setting in self.settings() {
                    command.args(["-c", setting]);
                }
                self.instance.spawn(command)?
            }
        };
        let admin = format!("postgres://postgres:{}@127.0.0.1:{}/postgres", self.password, self.port);
        daemon
            .wait_ready("PostgreSQL should take connections", START, async || {
                PgConnection::connect(&admin).await.is_ok()
            })
            .await?;
        let mut connection = PgConnection::connect(&admin).await?;
        let exists: bool =
            sea_orm::sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'lote')")
                .fetch_one(&mut connection)
                .await?;
        if !exists {
            sea_orm::sqlx::query("CREATE DATABASE lote").execute(&mut connection).await?;
        }
        Ok(())
    }

    fn settings(&self) -> Vec<&'static str> {
        let mut settings = vec![
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            // Each parallel test and each service process has its pools.
            "max_connections=300",
            "shared_buffers=256MB",
            "max_wal_size=2GB",
            "log_min_duration_statement=1000",
        ];
        if self.durability == Durability::None {
            settings.extend(["fsync=off", "full_page_writes=off", "synchronous_commit=off"]);
        }
        settings
    }

    /// The cluster's directory, made by initdb the first time.
    fn data(&self) -> Result<PathBuf> {
        // PostgreSQL refuses to run as root; its own user must be able to reach the data.
        let data = if is_root() { reachable(&self.instance.dir)? } else { self.instance.dir.join("data") };
        if data.join("PG_VERSION").exists() {
            return Ok(data);
        }
        fs::create_dir_all(&data)?;
        let secret = data.with_extension("password");
        write_secret(&secret, &self.password)?;
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(&data).arg(&secret))?;
        }
        // Passwords even on the loopback: other users of this machine can reach the port.
        run(self
            .as_postgres("initdb")?
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
            .arg("--pwfile")
            .arg(&secret))?;
        fs::remove_file(&secret)?;
        Ok(data)
    }

    /// A command of PostgreSQL's newest installed version, as the user postgres where we are root.
    fn as_postgres(&self, program: &str) -> Result<Command> {
        let program = bin_dir()?.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        Ok(command)
    }

    /// Kills it as `pg_ctl stop -m immediate` does (SIGQUIT to the postmaster): no checkpoint, recovery at
    /// the next start. A SIGKILL would orphan its backends, and they would keep the next start waiting.
    ///
    /// # Errors
    /// Where it won't go.
    pub async fn kill(&self) -> Result<()> {
        self.end(Signal::QUIT).await
    }

    /// Stops it in good order: open transactions are rolled back, then a checkpoint.
    ///
    /// # Errors
    /// Where it won't go.
    pub async fn stop(&self) -> Result<()> {
        self.end(Signal::INT).await
    }

    async fn end(&self, signal: Signal) -> Result<()> {
        let Some(daemon) = self.instance.running() else { return Ok(()) };
        daemon.signal(signal);
        match daemon.gone(STOP).await {
            Ok(()) => Ok(()),
            Err(_) => daemon.kill().await,
        }
    }

    /// Kills it without waiting.
    pub(crate) fn abandon(&self) {
        self.instance.abandon(Signal::QUIT);
    }

    /// Kills and starts it.
    ///
    /// # Errors
    /// As [`Postgres::kill`] and [`Postgres::start`].
    pub async fn restart(&self) -> Result<()> {
        self.kill().await?;
        self.start().await
    }

    /// Removes the cluster of a stopped server.
    ///
    /// # Errors
    /// Where it can't be removed.
    pub fn remove_data(&self) -> Result<()> {
        let link = self.instance.dir.join("data");
        if let Ok(target) = fs::read_link(&link) {
            remove_dir(&target)?;
            fs::remove_file(&link)?;
        }
        remove_dir(&self.instance.dir)
    }
}

fn remove_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `dir`/data, or a directory of PostgreSQL's own home that it links to: where the repository is in a private
/// directory, say /root, the user postgres can't enter it.
fn reachable(dir: &Path) -> Result<PathBuf> {
    let link = dir.join("data");
    if let Ok(target) = fs::read_link(&link) {
        return Ok(target);
    }
    let open = dir
        .ancestors()
        .all(|parent| fs::metadata(parent).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0));
    if open {
        return Ok(link);
    }
    let target = Path::new("/var/lib/postgresql").join(format!("lote-{}", crate::random_hex(6)));
    fs::create_dir_all(&target)?;
    std::os::unix::fs::symlink(&target, &link)?;
    Ok(target)
}

fn bin_dir() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: run deploy/native/install.sh")?;
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| Path::new(&format!("/usr/lib/postgresql/{version}/bin/initdb")).exists())
        .max()
        .context("no version of PostgreSQL in /usr/lib/postgresql has initdb")?;
    Ok(PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin")))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    if !output.status.success() {
        let program = command.get_args().chain([command.get_program()]).map(OsStr::to_string_lossy);
        bail!(
            "{}: {}\n{}{}",
            program.collect::<Vec<_>>().join(" "),
            output.status,
            str::from_utf8(&output.stdout).unwrap_or_default(),
            str::from_utf8(&output.stderr).unwrap_or_default()
        );
    }
    Ok(())
}
