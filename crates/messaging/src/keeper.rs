use std::{collections::HashMap, time::Duration};

use contracts::Queue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Broker, DeclareError, delivery::Pauses};

/// How often everything is declared again. A queue that somebody deleted is missed at once by who publishes to it
/// alone; an event that has another subscriber is not returned, and this bounds how long the deleted one goes
/// without.
const AGAIN_EVERY: Duration = Duration::from_secs(15);

/// And how often at most, whatever comes back.
const LEAST: Duration = Duration::from_secs(1);

/// Keeps the queues of the platform in place, as long as a process lives: declares them until that has succeeded,
/// when a message found no queue, and every 15 s. Every process does it, whatever its role and service, so that
/// an event waits for a subscriber that was never started yet, and a queue comes back while no worker runs.
pub struct TopologyKeeper {
    broker: Broker,
    queues: Vec<&'static Queue>,
    /// What was last reported of a queue that is not as it should be.
    reported: HashMap<&'static str, String>,
}

impl TopologyKeeper {
    /// Keeps these queues ([`contracts::QUEUES`]). On SQS, only where the configuration lets processes make queues.
    pub fn new(broker: Broker, queues: &[&'static Queue]) -> Self {
        let queues = queues.iter().copied().filter(|queue| broker.declares(queue)).collect();
        Self { broker, queues, reported: HashMap::new() }
    }

    /// Returns when `shutdown` is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut pauses = Pauses::new();
        loop {
            let since = Instant::now();
            let Some(complete) = shutdown.run_until_cancelled(self.declare()).await else { return };
            let pause = if complete { AGAIN_EVERY } else { pauses.next() };
            if complete {
                pauses.reset();
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.broker.incomplete(), if complete => {
                    tracing::warn!("a message was returned or refused: the queues are declared again");
                    tokio::time::sleep_until(since + LEAST).await;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Declares each queue, whatever becomes of the others. Returns whether nothing is left that trying again soon
    /// could help.
    async fn declare(&mut self) -> bool {
        let declaring = self.queues.iter().map(|queue| self.broker.declare_one(queue));
        let declared = futures::future::join_all(declaring).await;
        let mut complete = true;
        for (queue, declared) in self.queues.clone().into_iter().zip(declared) {
            let other = matches!(declared, Err(DeclareError::OtherSettings { .. }));
            self.broker.metrics(queue).other_settings.set(other.into());
            complete &= !matches!(declared, Err(DeclareError::Failed(_)));
            self.report(queue, declared.err());
        }
        complete
    }

    /// Logs what is wrong with a queue once, and that it is right again.
    fn report(&mut self, queue: &'static Queue, error: Option<DeclareError>) {
        let Some(error) = error else {
            if self.reported.remove(queue.name).is_some() {
                tracing::info!(queue = queue.name, "the queue is declared");
            }
            return;
        };
        let text = error.to_string();
        if self.reported.get(queue.name) == Some(&text) {
            return;
        }
        match &error {
            DeclareError::OtherSettings { .. } => tracing::error!(
                queue = queue.name,
                error = text,
                "the queue stays as it is and is used: to give it this version's settings, follow \
                 docs/runbooks/rabbitmq.md, \"A queue has other settings\""
            ),
            DeclareError::Failed(_) => {
                tracing::warn!(queue = queue.name, error = text, "the queue can't be declared yet")
            }
        }
        self.reported.insert(queue.name, text);
    }
}
