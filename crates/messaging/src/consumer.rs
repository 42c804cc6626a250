use contracts::{Message, Queue};
use tokio_util::sync::CancellationToken;

use crate::{Broker, Handler, Policy};

/// Feeds a queue's messages to their handlers.
pub struct Consumer {
    #[expect(dead_code, reason = "the transports follow")]
    broker: Broker,
    #[expect(dead_code, reason = "the transports follow")]
    queue: &'static Queue,
    policy: Policy,
}

impl Consumer {
    /// A consumer of `queue` without handlers yet, with the default policy.
    pub fn new(broker: &Broker, queue: &'static Queue) -> Self {
        Self { broker: broker.clone(), queue, policy: Policy::default() }
    }

    /// Replaces the policy.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Gives messages of type `M` to `handler`.
    #[must_use]
    pub fn handle<M: Message>(self, handler: impl Handler<M>) -> Self {
        drop(handler);
        self
    }

    /// Consumes until `shutdown` is cancelled, through any outage; then drains and returns.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
    }
}
