use super::{Instance, START, STOP, write_secret};
use crate::daemon::Daemon;
use anyhow::Result;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;

/// Not the wrapper in the path, which would become another user and not find the node's cookie.
pub const RABBITMQCTL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// What every RabbitMQ of Lote is told, compose's and a cluster's too.
const SHARED: &str = include_str!("../../../../deploy/rabbitmq/lote.conf");

/// The ports of one RabbitMQ node, all on 127.0.0.1.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ports {
    /// AMQP.
    pub amqp: u16,
    /// Management HTTP API and UI.
    pub management: u16,
    /// Prometheus metrics.
    pub prometheus: u16,
    /// Erlang distribution, for rabbitmqctl.
    pub distribution: u16,
    /// The Erlang port mapper, one of its own so that nodes never meet.
    pub epmd: u16,
}

/// A private RabbitMQ node with the management and prometheus plugins.
#[derive(Debug)]
pub struct Rabbit {
    instance: Instance,
    epmd: Instance,
    ports: Ports,
    password: String,
}

impl Rabbit {
    /// The node in `dir`; starts nothing. Its user is `lote`.
    ///
    /// # Errors
    /// Where `dir` can't be made.
    pub fn at(dir: &Path, ports: Ports, password: &str) -> Result<Self> {
        Ok(Self {
            instance: Instance::at(dir)?,
            epmd: Instance::at(&dir.join("epmd"))?,
            ports,
            password: password.to_owned(),
        })
    }

    /// `amqp://…`, the default virtual host.
    pub fn url(&self) -> String {
        format!("amqp://lote:{}@127.0.0.1:{}/%2f", self.password, self.ports.amqp)
    }

    /// The management API's address, with user and password.
    pub fn management_url(&self) -> String {
        format!("http://lote:{}@127.0.0.1:{}", self.password, self.ports.management)
    }

    /// The AMQP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.instance.running().is_some()
    }

    /// Whether its port mapper runs.
    pub(crate) fn epmd_is_running(&self) -> bool {
        self.epmd.running().is_some()
    }

    /// Kills it without waiting.
    pub(crate) fn abandon(&self) {
        self.instance.abandon(Signal::KILL);
        self.epmd.abandon(Signal::KILL);
    }

    /// Starts it, unless it runs, and waits until it serves AMQP and the management API.
    ///
    /// # Errors
    /// Where it doesn't, with its log.
    pub async fn start(&self) -> Result<()> {
        let daemon = match self.instance.running() {
            Some(daemon) => daemon,
            None => self.spawn()?,
        };
        let client = crate::http();
        // The listeners come up one by one at the end of the boot; this answers once all of them do.
        let url = format!("{}/api/health/checks/port-listener/{}", self.management_url(), self.ports.amqp);
        daemon
            .wait_ready("RabbitMQ should serve", START, || {
                let request = client.get(&url).send();
                async move { request.await.is_ok_and(|answer| answer.status().is_success()) }
            })
            .await
    }

    fn spawn(&self) -> Result<Daemon> {
        let dir = &self.instance.dir;
        let Ports { amqp, management, prometheus, distribution, epmd } = self.ports;
        let password = &self.password;
        write_secret(
            &dir.join("rabbitmq.conf"),
            &format!(
                "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
                 management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
                 prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {prometheus}\n\
                 default_user = lote\ndefault_pass = {password}\n\
                 default_permissions.configure = .*\n\
                 default_permissions.read = .*\ndefault_permissions.write = .*\n\
                 default_user_tags.administrator = true\n\
                 {SHARED}\
                 # The write-ahead log of quorum queues is held in memory too; half a gigabyte is for servers.\n\
                 raft.wal_max_size_bytes = 67108864\n"
            ),
        )?;
        std::fs::write(dir.join("enabled_plugins"), "[rabbitmq_management,rabbitmq_prometheus].\n")?;
        // Our own port mapper: the one that Erlang would start for itself outlives the node.
        if self.epmd.running().is_none() {
            let mut command = Command::new("epmd");
            command.args(["-address", "127.0.0.1", "-port", &epmd.to_string()]);
            self.epmd.spawn(command)?;
        }
        let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        command.envs(self.environment()).envs([
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODE_PORT", amqp.to_string()),
            ("RABBITMQ_DIST_PORT", distribution.to_string()),
            ("RABBITMQ_MNESIA_BASE", dir.join("data").display().to_string()),
            ("RABBITMQ_LOG_BASE", dir.join("logs").display().to_string()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins").display().to_string()),
            ("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq").display().to_string()),
            ("RABBITMQ_PID_FILE", dir.join("beam.pid").display().to_string()),
            // Idle schedulers that spin take the CPU from everybody else on a small machine.
            // Erlang's distribution, which runs anything for who has its cookie, listens where the rest does.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
                    .to_owned(),
            ),
        ]);
        self.instance.spawn(command)
    }

    /// Raises its memory alarm: it takes nothing more from connections that publish, until
    /// [`Rabbit::clear_memory_alarm`].
    ///
    /// # Errors
    /// Where it can't be told.
    pub async fn raise_memory_alarm(&self) -> Result<()> {
        self.control(&["set_vm_memory_high_watermark", "0.000001"]).await
    }

    /// Ends the memory alarm.
    ///
    /// # Errors
    /// Where it can't be told.
    pub async fn clear_memory_alarm(&self) -> Result<()> {
        self.control(&["set_vm_memory_high_watermark", "0.4"]).await
    }

    /// Runs rabbitmqctl.
    ///
    /// # Errors
    /// Where it fails, with what it said.
    pub async fn control(&self, args: &[&str]) -> Result<()> {
        let mut command = tokio::process::Command::new(RABBITMQCTL);
        let output = command.args(args).envs(self.environment()).kill_on_drop(true).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "rabbitmqctl {}: {}: {said}", args.join(" "), output.status);
        Ok(())
    }

    /// What rabbitmqctl needs to find this node.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("RABBITMQ_NODENAME", "lote@localhost".to_owned()),
            // Erlang keeps its cookie there.
            ("HOME", self.instance.dir.display().to_string()),
            ("ERL_EPMD_PORT", self.ports.epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ]
    }

    /// Kills it: SIGKILL to the Erlang machine and what it started.
    ///
    /// RabbitMQ 3.10 writes its list of quorum queues to disk only now and then: one that was declared within
    /// the last second comes back without a leader, and its channels hang. Queues that are older are safe.
    ///
    /// # Errors
    /// Where it won't go.
    pub async fn kill(&self) -> Result<()> {
        match self.instance.running() {
            Some(daemon) => daemon.kill().await,
            None => Ok(()),
        }
    }

    /// Stops it in good order, and its port mapper.
    ///
    /// # Errors
    /// Where it won't go.
    pub async fn stop(&self) -> Result<()> {
        if let Some(daemon) = self.instance.running() {
            // Not to the start script, which would start rabbitmqctl for it, seconds of it.
            daemon.signal_members("beam.smp", Signal::TERM);
            if daemon.gone(STOP).await.is_err() {
                daemon.kill().await?;
            }
        }
        match self.epmd.running() {
            Some(daemon) => daemon.kill().await,
            None => Ok(()),
        }
    }

    /// Kills and starts it.
    ///
    /// # Errors
    /// As [`Rabbit::kill`] and [`Rabbit::start`].
    pub async fn restart(&self) -> Result<()> {
        self.kill().await?;
        self.start().await
    }
}
