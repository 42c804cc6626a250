use contracts::Queue;
use tokio_util::sync::CancellationToken;

use crate::{Broker, consumer::LOOK_EVERY};

/// Keeps the gauges of how full queues are, in a process that does not consume them: where workers are scaled to zero, the
/// backlog is seen all the same. A queue that the process consumes is left to its consumer, so that each process asks
/// the broker once in 15 s of each queue, whatever its role.
pub struct DepthSampler {
    broker: Broker,
    queues: Vec<&'static Queue>,
}

impl DepthSampler {
    /// Looks at these queues: the service's own.
    pub fn new(broker: Broker, queues: &[&'static Queue]) -> Self {
        Self { broker, queues: queues.to_vec() }
    }

    /// Looks until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(self.look()).await.is_some() {
            if shutdown.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&self) {
        for queue in &self.queues {
            let metrics = self.broker.metrics(queue);
            if metrics.is_consumed() {
                continue;
            }
            match self.broker.depth(queue).await {
                Ok(depth) => metrics.depth(&depth),
                // Who publishes says that the broker is away.
                Err(error) => tracing::debug!(queue = queue.name, %error, "the depth is unknown"),
            }
        }
    }
}
