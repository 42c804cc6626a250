use super::{Instance, START, STOP, write_secret};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A private MariaDB.
#[derive(Debug)]
pub struct MariaDb {
    instance: Instance,
    port: u16,
    password: String,
    durable: bool,
}

impl MariaDb {
    /// The instance in `dir`; starts nothing. Its superuser is `lote`. Where it is not `durable`, a commit does not
    /// wait for the disk: for a server that nobody kills.
    ///
    /// # Errors
    /// Where `dir` can't be made.
    pub fn at(dir: &Path, port: u16, password: &str, durable: bool) -> Result<Self> {
        Ok(Self { instance: Instance::at(dir)?, port, password: password.to_owned(), durable })
    }

    /// The superuser's `mysql://…`, without a database.
    pub fn url(&self) -> String {
        format!("mysql://lote:{}@127.0.0.1:{}/mysql", self.password, self.port)
    }

    /// A user's `mysql://…` to the database of its name.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("mysql://{user}:{password}@127.0.0.1:{}/{user}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.instance.running().is_some()
    }

    /// Starts it, unless it runs, and waits until it takes connections (after a kill: until it has recovered). The
    /// first time it makes its data.
    ///
    /// # Errors
    /// Where that fails, with its log.
    pub async fn start(&self) -> Result<()> {
        let daemon = match self.instance.running() {
            Some(daemon) => daemon,
            None => {
                let dir = &self.instance.dir;
                let data = dir.join("data");
                let secret = dir.join("init.sql");
                write_secret(
                    &secret,
                    &format!(
                        "CREATE OR REPLACE USER lote@'127.0.0.1' IDENTIFIED BY '{}';
                         GRANT ALL PRIVILEGES ON *.* TO lote@'127.0.0.1' WITH GRANT OPTION;\n",
                        self.password
                    ),
                )?;
                // A server that starts removes what others have in a directory that they share.
                let scratch = dir.join("tmp");
                fs::create_dir_all(&scratch)?;
                if !data.join("mysql").exists() {
                    initialize(&data, &scratch)?;
                }
                let mut command = Command::new("/usr/sbin/mariadbd");
                command
                    .env("TMPDIR", &scratch)
                    .arg("--no-defaults")
                    .arg(format!("--datadir={}", data.display()))
                    .arg(format!("--init-file={}", secret.display()))
                    .arg(format!("--socket={}", short_socket(self.port)))
                    .arg(format!("--pid-file={}", dir.join("pid").display()))
                    .args(["--bind-address=127.0.0.1", &format!("--port={}", self.port)])
                    .args(as_root())
                    .args(["--skip-name-resolve", "--skip-log-bin", "--max-connections=300"])
                    .args(["--innodb-buffer-pool-size=128M", "--innodb-log-file-size=96M"])
                    // Another zone than UTC, so that whoever forgets to say which one theirs is finds out.
                    .args(["--character-set-server=utf8mb4", "--default-time-zone=+03:00"]);
                if !self.durable {
                    command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0"]);
                }
                self.instance.spawn(command)?
            }
        };
        let url = self.url();
        daemon
            .wait_ready("MariaDB should take connections", START, async || {
                MySqlConnection::connect(&url).await.is_ok()
            })
            .await
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
    /// As [`MariaDb::kill`] and [`MariaDb::start`].
    pub async fn restart(&self) -> Result<()> {
        self.kill().await?;
        self.start().await
    }
}

/// Makes a database and a user of its name that sees nothing else. One that exists gets the password. Gives the user's
/// `mysql://…`.
///
/// # Errors
/// Where MariaDB refuses.
pub async fn create_database(admin_url: &str, name: &str, password: &str) -> Result<String> {
    let plain = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    anyhow::ensure!(plain(name) && plain(password), "{name:?} is not a database's name");
    let mut connection = MySqlConnection::connect(admin_url).await.context("connect to MariaDB")?;
    for sql in [
        format!("CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4"),
        format!("CREATE OR REPLACE USER {name}@'127.0.0.1' IDENTIFIED BY '{password}'"),
        format!("GRANT ALL PRIVILEGES ON {name}.* TO {name}@'127.0.0.1'"),
    ] {
        connection.execute(AssertSqlSafe(sql)).await.with_context(|| format!("make database {name}"))?;
    }
    connection.close().await?;
    let mut url = reqwest::Url::parse(admin_url)?;
    let set = url.set_username(name).and_then(|()| url.set_password(Some(password)));
    anyhow::ensure!(set.is_ok(), "MariaDB's URL takes no user");
    url.set_path(name);
    Ok(url.into())
}

/// Drops a database and its user.
///
/// # Errors
/// Where MariaDB refuses.
pub async fn drop_database(admin_url: &str, name: &str) -> Result<()> {
    let mut connection = MySqlConnection::connect(admin_url).await?;
    for sql in [format!("DROP DATABASE IF EXISTS {name}"), format!("DROP USER IF EXISTS {name}@'127.0.0.1'")]
    {
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    connection.close().await?;
    Ok(())
}

/// A socket's path has 107 bytes at most, and a repository may be deep.
fn short_socket(port: u16) -> String {
    format!("/tmp/lote-mariadb-{port}.sock")
}

/// It refuses to run as root, unless that is said.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

fn initialize(data: &Path, scratch: &Path) -> Result<()> {
    fs::create_dir_all(data)?;
    let output = Command::new("mariadb-install-db")
        .env("TMPDIR", scratch)
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .args(["--skip-test-db", "--auth-root-authentication-method=socket"])
        .args(as_root())
        .output()
        .context("MariaDB is not installed: run deploy/native/install.sh")?;
    if !output.status.success() {
        bail!("mariadb-install-db: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
