use super::{Instance, START};
use crate::aws;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// A private LocalStack that serves S3 and SQS.
///
/// It keeps nothing over a restart: buckets, objects and queues are gone, and [`LocalStack::start`] makes
/// those of `localstack/init/ready.d` again. To test an outage that loses nothing, put a proxy before it.
#[derive(Debug)]
pub struct LocalStack {
    instance: Instance,
    port: u16,
}

impl LocalStack {
    /// The instance in `dir`; starts nothing.
    ///
    /// # Errors
    /// Where `dir` can't be made.
    pub fn at(dir: &Path, port: u16) -> Result<Self> {
        Ok(Self { instance: Instance::at(dir)?, port })
    }

    /// The endpoint of S3 (path style) and SQS.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.instance.running().is_some()
    }

    /// Starts it, unless it runs, waits until both services answer, and runs the init scripts.
    ///
    /// # Errors
    /// Where that fails, with its log.
    pub async fn start(&self) -> Result<()> {
        if let Some(daemon) = self.instance.running() {
            return daemon.wait_ready("LocalStack should answer", START, async || self.answers().await).await;
        }
        let daemon = self.spawn()?;
        daemon.wait_ready("LocalStack should answer", START, async || self.answers().await).await?;
        self.init().await
    }

    fn spawn(&self) -> Result<crate::daemon::Daemon> {
        let python = crate::python();
        if !python.exists() {
            bail!("LocalStack is not installed: run deploy/native/install.sh");
        }
        let (dir, address) = (&self.instance.dir, format!("127.0.0.1:{}", self.port));
        let listen = format!("{}:{}", loopback(), self.port);
        let tmp = dir.join("tmp");
        // What the last run left there belongs to objects that no longer exist.
        if tmp.exists() {
            fs::remove_dir_all(&tmp)?;
        }
        fs::create_dir_all(&tmp)?;
        let mut command = Command::new(python);
        command.args(["-m", "localstack.runtime.main"]).current_dir(dir).envs([
            ("SERVICES", "s3,sqs"),
            ("EAGER_SERVICE_LOADING", "1"),
            ("GATEWAY_LISTEN", &listen),
            // Queue URLs are made of it; the default names a host that may not resolve.
            ("LOCALSTACK_HOST", &address),
            ("SQS_ENDPOINT_STRATEGY", "path"),
            ("SQS_DISABLE_CLOUDWATCH_METRICS", "1"),
            ("DNS_ADDRESS", "0"),
            ("DISABLE_EVENTS", "1"),
            ("SKIP_SSL_CERT_DOWNLOAD", "1"),
            ("LS_LOG", "warn"),
        ]);
        command.env("LOCALSTACK_VOLUME_DIR", dir.join("volume")).env("TMPDIR", &tmp);
        // Unless told, all LocalStacks of a machine write one certificate's files, and one that starts reads what
        // another has half written.
        command.env("CUSTOM_SSL_CERT_PATH", tmp.join("server.test.pem"));
        self.instance.spawn(command)
    }

    /// Whether S3 and SQS answer. The first call after a start loads them, which takes seconds.
    pub async fn answers(&self) -> bool {
        let url = self.url();
        aws::s3_lists(&url).await && aws::sqs_queues(&url, "").await.is_ok()
    }

    /// Runs `localstack/init/ready.d/*.py` in the order of their names: what LocalStack's image does by itself.
    ///
    /// # Errors
    /// Where one fails, with its output.
    pub async fn init(&self) -> Result<()> {
        let scripts = crate::root().join("localstack/init/ready.d");
        let mut scripts: Vec<_> = fs::read_dir(&scripts)
            .with_context(|| format!("read {}", scripts.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
            .collect();
        scripts.sort();
        for script in scripts {
            let output = tokio::process::Command::new(crate::python())
                .arg(&script)
                .env("AWS_ENDPOINT_URL", self.url())
                .env("LOTE_AWS_SETUP", crate::root().join("deploy/aws/setup.py"))
                .envs(aws::CREDENTIALS)
                .output()
                .await?;
            if !output.status.success() {
                let error = String::from_utf8_lossy(&output.stderr);
                bail!("{}: {}\n{error}", script.display(), output.status);
            }
        }
        Ok(())
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

    /// Stops it. There is nothing that it could save, and its own way takes many seconds: it is killed.
    ///
    /// # Errors
    /// Where it won't go.
    pub async fn stop(&self) -> Result<()> {
        self.kill().await
    }

    /// Kills it without waiting.
    pub(crate) fn abandon(&self) {
        self.instance.abandon(Signal::KILL);
    }

    /// Kills and starts it, empty.
    ///
    /// # Errors
    /// As [`LocalStack::kill`] and [`LocalStack::start`].
    pub async fn restart(&self) -> Result<()> {
        self.kill().await?;
        self.start().await
    }
}

/// Where LocalStack listens: its server heeds the address of GATEWAY_LISTEN only where that is one of IPv6, and an
/// IPv4 one lets it listen on every interface. A machine without IPv6 sockets has no better than that.
fn loopback() -> &'static str {
    let mapped = "[::ffff:127.0.0.1]";
    match TcpListener::bind(format!("{mapped}:0")) {
        Ok(_) => mapped,
        Err(_) => "127.0.0.1",
    }
}
