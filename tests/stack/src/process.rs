//! A service's binary as a process, to be killed and restarted.

use crate::daemon::Daemon;
use anyhow::{Context, Result};
use rustix::process::Signal;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// How to run one process of a service. Its environment is only what is given here (and PATH).
#[derive(Clone, Debug)]
pub struct Service {
    binary: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    ready_url: Option<String>,
}

impl Service {
    /// A workspace binary, say `lote-catalog-upload`, with its arguments, say `["worker"]`; output appended to
    /// `log`.
    ///
    /// # Errors
    /// Where the binary isn't built.
    pub fn new(binary: &str, args: &[&str], log: &Path) -> Result<Self> {
        Ok(Self {
            binary: find_binary(binary)?,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            log: log.to_path_buf(),
            ready_url: None,
        })
    }

    /// Sets an environment variable, over an earlier value.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Sets many environment variables.
    #[must_use]
    pub fn envs<K: AsRef<str>, V: Into<String>>(self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        vars.into_iter().fold(self, |service, (name, value)| service.env(name.as_ref(), value))
    }

    /// The URL that answers 2xx once the process is ready, `…/health/ready`.
    #[must_use]
    pub fn ready_when(mut self, url: &str) -> Self {
        self.ready_url = Some(url.to_owned());
        self
    }

    /// Its arguments.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// The same binary with the same environment, doing something else.
    #[must_use]
    pub fn with_args(&self, args: &[&str]) -> Self {
        Self { args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..self.clone() }
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The binary's path.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The environment it will have.
    pub fn environment(&self) -> &[(String, String)] {
        &self.env
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    /// Starts it as a daemon that outlives us; doesn't wait.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn spawn_daemon(&self) -> Result<Daemon> {
        Daemon::spawn(self.command(), &self.log)
    }

    /// Waits until `daemon`, a process of this service, is ready.
    ///
    /// # Errors
    /// Where it ends before, or past `limit`; with the end of its log.
    pub async fn wait_ready(&self, daemon: &Daemon, limit: Duration) -> Result<()> {
        let Some(url) = &self.ready_url else { return Ok(()) };
        let client = crate::http();
        let what = format!("{} {} should be ready at {url}", self.name(), self.args.join(" "));
        daemon
            .wait_ready(&what, limit, || {
                let request = client.get(url).send();
                async move { request.await.is_ok_and(|answer| answer.status().is_success()) }
            })
            .await
    }

    /// Starts it and waits until it is ready (60 s at most).
    ///
    /// # Errors
    /// Where it isn't.
    pub async fn start(self) -> Result<Running> {
        let running = self.start_unready()?;
        running.wait_ready().await?;
        Ok(running)
    }

    /// Starts it; doesn't wait.
    ///
    /// # Errors
    /// Where it can't be started.
    pub fn start_unready(self) -> Result<Running> {
        let daemon = self.spawn_daemon()?;
        Ok(Running { service: self, daemon })
    }

    /// Runs it to its end, as for `migrate` and `doctor`, and returns its status and what it printed on
    /// standard output.
    ///
    /// # Errors
    /// Where it can't be started.
    pub async fn run(&self) -> Result<(ExitStatus, String)> {
        let mut log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        let mut command = tokio::process::Command::from(self.command());
        // `output` takes both streams, whatever was set before.
        let output = command.stdin(std::process::Stdio::null()).output();
        let output = output.await.with_context(|| format!("run {}", self.binary.display()))?;
        log.write_all(&output.stderr)?;
        Ok((output.status, String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    fn name(&self) -> &str {
        self.binary.file_name().and_then(|name| name.to_str()).unwrap_or("service")
    }
}

/// A running process of a service. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    service: Service,
    daemon: Daemon,
}

impl Running {
    /// Waits until it is ready (60 s at most).
    ///
    /// # Errors
    /// Where it ends before, or isn't ready in time; with the end of its log.
    pub async fn wait_ready(&self) -> Result<()> {
        self.service.wait_ready(&self.daemon, Duration::from_secs(60)).await
    }

    /// The process.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// How it is run.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Its base URL, if it is ready at one.
    pub fn url(&self) -> Option<&str> {
        self.service.ready_url.as_deref()?.strip_suffix("/health/ready")
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.daemon.is_running()
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// Where it won't go.
    pub async fn kill(&self) -> Result<()> {
        self.daemon.kill().await
    }

    /// SIGTERM, and waits until it has left by itself.
    ///
    /// # Errors
    /// Past `limit`; it still runs then.
    pub async fn terminate(&self, limit: Duration) -> Result<ExitStatus> {
        self.daemon.signal(Signal::TERM);
        self.exited(limit).await
    }

    /// Waits until it has ended, say at a failpoint.
    ///
    /// # Errors
    /// Past `limit`.
    pub async fn exited(&self, limit: Duration) -> Result<ExitStatus> {
        self.daemon.gone(limit).await?;
        // Gone from /proc and reported by its reaper are two moments.
        crate::wait::until("the exit status", limit, async || self.daemon.exit_status().is_some()).await?;
        self.daemon.exit_status().context("an exit status")
    }

    /// Starts it again, after its end or by SIGKILL, and waits until it is ready.
    ///
    /// # Errors
    /// Where it isn't.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.daemon = self.service.spawn_daemon()?;
        self.wait_ready().await
    }

    /// Starts it again with other settings.
    ///
    /// # Errors
    /// Where it isn't ready in time.
    pub async fn restart_with(&mut self, change: impl FnOnce(Service) -> Service) -> Result<()> {
        self.kill().await?;
        self.service = change(self.service.clone());
        self.daemon = self.service.spawn_daemon()?;
        self.wait_ready().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.daemon.signal_group(Signal::KILL);
    }
}

/// A workspace binary, beside the running one: in the same target directory and profile.
///
/// # Errors
/// Where it isn't built.
pub fn find_binary(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    // A binary is in target/<profile>/, a test in target/<profile>/deps/.
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built beside {}: cargo build --workspace", me.display()))
}
