//! What a process does beside answering requests, as one thing that lives and ends together.

use std::{future::Future, time::Duration};

use anyhow::Context as _;
use jobs::Jobs;
use messaging::Broker;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::http::Server;

/// Tasks that run as long as the process: consumers, relays, sweepers. Each ends by itself when
/// `shutdown` is cancelled, and at no other time.
pub struct Background {
    tasks: JoinSet<String>,
    shutdown: CancellationToken,
}

impl Background {
    /// Nothing yet.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), shutdown }
    }

    /// Starts a task.
    #[must_use]
    pub fn spawn(mut self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) -> Self {
        let name = name.into();
        self.tasks.spawn(async move {
            task.await;
            name
        });
        self
    }

    /// Starts the sweepers of all queues of jobs: in every process, whatever its role.
    #[must_use]
    pub fn sweep_jobs(self, jobs: &Jobs, broker: &Broker) -> Self {
        let shutdown = self.shutdown.clone();
        jobs.sweepers(broker).fold(self, |tasks, (queue, sweeper)| {
            tasks.spawn(format!("sweeper of {queue}"), sweeper.run(shutdown.clone()))
        })
    }

    /// Starts the consumers of all queues of jobs: in workers.
    #[must_use]
    pub fn run_jobs(self, jobs: &Jobs, broker: &Broker) -> Self {
        let shutdown = self.shutdown.clone();
        jobs.consumers(broker).fold(self, |tasks, (queue, consumer)| {
            tasks.spawn(format!("consumer of {queue}"), consumer.run(shutdown.clone()))
        })
    }

    /// Serves until shutdown, then waits for all tasks to drain.
    ///
    /// # Errors
    /// The server stopped, or a task ended before its time: a process that silently does less than it
    /// should is better restarted.
    pub async fn serve(mut self, server: Server) -> anyhow::Result<()> {
        let mut server = std::pin::pin!(server.run(self.shutdown.clone()));
        let served = tokio::select! {
            served = &mut server => served,
            Some(ended) = self.tasks.join_next() => {
                let early = !self.shutdown.is_cancelled();
                self.shutdown.cancel();
                let served = server.await;
                match ended {
                    Err(panic) => served.and(Err(anyhow::Error::new(panic).context("a background task"))),
                    Ok(name) if early => served.and(Err(anyhow::anyhow!("the {name} ended by itself"))),
                    Ok(_) => served,
                }
            }
        };
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a background task")?;
        }
        served
    }
}

const HOURLY: Duration = Duration::from_secs(60 * 60);

/// Deletes what is old, at once and then once an hour, until `shutdown` is cancelled. `sweep` gives how many it deleted; `what`
/// names them in the log. What an attempt could not delete is due again.
pub async fn sweep_hourly<F>(what: &str, shutdown: &CancellationToken, sweep: impl Fn() -> F)
where
    F: Future<Output = anyhow::Result<u64>>,
{
    loop {
        match shutdown.run_until_cancelled(sweep()).await {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(deleted)) => tracing::info!(deleted, "old {what} deleted"),
            Some(Err(error)) => tracing::warn!(error = format!("{error:#}"), "old {what} not deleted"),
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(HOURLY)).await.is_none() {
            return;
        }
    }
}
