//! A process that may outlive us, known by its pid and the moment it started (pids are reused).

use crate::wait;
use anyhow::{Context, Result, bail};
use rustix::process::Pid;
pub use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::sync::watch;

/// Bytes.
const LARGE_LOG: u64 = 20 << 20;

/// A process, and with it the process group that it leads.
#[derive(Clone, Debug)]
pub struct Daemon {
    pid: i32,
    /// Clock ticks between boot and start, from /proc: with the pid it names one process for ever.
    started: u64,
    log: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Daemon {
    /// Starts `command` in a process group of its own, its output appended to `log`, its input empty.
    ///
    /// # Errors
    /// Where the program or the log can't be opened.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        // A log that grew large makes room, once: what runs for weeks should not fill the disk.
        if fs::metadata(log).is_ok_and(|metadata| metadata.len() > LARGE_LOG) {
            fs::rename(log, log.with_extension("old.log"))?;
        }
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open log {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let mut child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
        let pid = i32::try_from(child.id())?;
        let started = stat(pid).map_or(0, |stat| stat.started);
        let (sender, exit) = watch::channel(None);
        // Somebody has to reap it, whatever runtime its starter has, or it stays as a zombie.
        std::thread::Builder::new().name(format!("reap {pid}")).spawn(move || {
            if let Ok(status) = child.wait() {
                sender.send_replace(Some(status));
            }
        })?;
        Ok(Self { pid, started, log: log.to_path_buf(), exit })
    }

    /// The process that [`Daemon::record`] described, if it still runs.
    pub fn recorded(file: &Path, log: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let (_, exit) = watch::channel(None);
        let daemon =
            Self { pid: pid.parse().ok()?, started: started.parse().ok()?, log: log.to_path_buf(), exit };
        daemon.is_running().then_some(daemon)
    }

    /// Writes down which process this is, for [`Daemon::recorded`].
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn record(&self, file: &Path) -> Result<()> {
        fs::write(file, format!("{} {}\n", self.pid, self.started))
            .with_context(|| format!("write {}", file.display()))
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it runs: a zombie doesn't.
    pub fn is_running(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && !stat.is_dead())
    }

    /// How it ended; nothing while it runs, or where another process started it.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Sends `signal` to the process alone. One that is gone is no error.
    pub fn signal(&self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may end between the question and the signal.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Sends `signal` to the process and all of its group.
    pub fn signal_group(&self, signal: Signal) {
        if (self.is_running() || self.group_lives())
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }

    /// Sends `signal` to the group's members whose program is called `name`.
    pub fn signal_members(&self, name: &str, signal: Signal) {
        for (pid, stat) in all() {
            if stat.group == self.pid
                && stat.name == name
                && let Some(pid) = Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }

    /// Waits until the process and its group are gone.
    ///
    /// # Errors
    /// Past `limit`.
    pub async fn gone(&self, limit: Duration) -> Result<()> {
        let what = format!("process {} of {} should be gone", self.pid, self.log.display());
        wait::until(&what, limit, async || !self.is_running() && !self.group_lives()).await
    }

    /// SIGKILL to the group, and waits until it is gone.
    ///
    /// # Errors
    /// Where it isn't gone in 30 s.
    pub async fn kill(&self) -> Result<()> {
        self.signal_group(Signal::KILL);
        self.gone(Duration::from_secs(30)).await
    }

    /// Waits until `ready` says yes.
    ///
    /// # Errors
    /// At once where the process ends before, or past `limit`; with the end of its log.
    pub async fn wait_ready<F, Fut>(&self, what: &str, limit: Duration, mut ready: F) -> Result<()>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let mut died = false;
        let waited = wait::until(what, limit, || {
            died = !self.is_running();
            let answer = ready();
            async move { died || answer.await }
        })
        .await;
        if died {
            bail!("{what}: the process ended before. Its log {}:\n{}", self.log.display(), self.log_tail());
        }
        waited.with_context(|| format!("log {}:\n{}", self.log.display(), self.log_tail()))
    }

    /// The log's last 30 lines.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// The most memory it ever had resident (VmHWM), in bytes.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    }

    fn group_lives(&self) -> bool {
        // Nobody may reap an orphan in a container whose first process doesn't care: a zombie is dead.
        all().any(|(_, stat)| stat.group == self.pid && !stat.is_dead())
    }
}

/// What /proc/<pid>/stat says of a process (proc(5)).
struct Stat {
    name: String,
    state: char,
    group: i32,
    started: u64,
}

impl Stat {
    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold any character, so what counts is the last one.
    let (head, tail) = text.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    let fields: Vec<_> = tail.split(' ').collect();
    Some(Stat {
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

fn all() -> impl Iterator<Item = (i32, Stat)> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Some((pid, stat(pid)?))
    })
}
