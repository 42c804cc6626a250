use std::{collections::HashMap, sync::Arc, time::Duration};

use contracts::{Message, Queue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    Broker, Handler, Policy,
    delivery::{Batch, Delivery, Pauses, Source},
    dispatch::{AnyHandler, Dispatch, Typed},
    kill_switch::KillSwitch,
};

/// How often a consumer looks how full its queue is.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Feeds a queue's messages to their handlers.
pub struct Consumer {
    broker: Broker,
    queue: &'static Queue,
    policy: Policy,
    handlers: HashMap<&'static str, Box<dyn AnyHandler>>,
}

impl Consumer {
    /// A consumer of `queue` without handlers yet, with the default policy.
    pub fn new(broker: &Broker, queue: &'static Queue) -> Self {
        broker.know(queue);
        Self { broker: broker.clone(), queue, policy: Policy::default(), handlers: HashMap::new() }
    }

    /// Replaces the policy. At least one handler works, at least one attempt is made.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self.policy.concurrency = self.policy.concurrency.clamp(1, usize::from(u16::MAX));
        self.policy.max_attempts = self.policy.max_attempts.max(1);
        self
    }

    /// Gives messages of type `M` to `handler`.
    #[must_use]
    pub fn handle<M: Message>(mut self, handler: impl Handler<M>) -> Self {
        self.handlers.insert(M::TYPE, Box::new(Typed::<M, _>::new(handler)));
        self
    }

    /// Consumes until `shutdown` is cancelled, through any outage; then drains and returns: takes nothing
    /// more, gives back what was not begun, lets handlers finish or release, settles, leaves. A handler
    /// that ignores the token holds it up until its deadline.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { broker, queue, policy, handlers } = self;
        let metrics = broker.metrics(queue);
        let slots = Slots { free: Arc::new(Semaphore::new(policy.concurrency)), all: policy.concurrency };
        let dispatch = Arc::new(Dispatch {
            queue,
            kill_switch: KillSwitch::new(policy.kill_switch_after),
            policy,
            handlers,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
            stopped: CancellationToken::new(),
            allowance: broker.allowance(queue),
        });
        let looking = tokio::spawn(look(broker.clone(), queue));
        let mut pauses = Pauses::new();
        while !shutdown.is_cancelled() {
            let opened = tokio::select! {
                () = shutdown.cancelled() => break,
                opened = broker.open(queue, &dispatch.policy) => opened,
            };
            let lost = match opened {
                Ok(source) => {
                    tracing::info!(queue = queue.name, "consuming");
                    pauses.reset();
                    match feed(source, &dispatch, &slots).await {
                        Ok(()) => break,
                        Err(lost) => lost,
                    }
                }
                Err(error) => error,
            };
            metrics.restarts.inc();
            let pause = pauses.next();
            tracing::warn!(queue = queue.name, error = %format!("{lost:#}"),
                pause_ms = pause.as_millis() as u64, "the consumer lost its broker");
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        dispatch.stopped.cancel();
        // Handlers that outlived the connection their message came by.
        slots.idle().await;
        looking.abort();
        tracing::info!(queue = queue.name, "drained");
    }
}

/// Takes deliveries from one source until the shutdown (`Ok`) or the end of the source (`Err`).
async fn feed(mut source: Source, dispatch: &Arc<Dispatch>, slots: &Slots) -> anyhow::Result<()> {
    let shutdown = &dispatch.shutdown;
    loop {
        let trying = dispatch.kill_switch.open();
        if trying && !pause(dispatch).await {
            break;
        }
        let mut batch = source.batch();
        if trying {
            batch = Batch { most: 1, linger: Duration::ZERO };
        }
        let mut permits = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            permits = slots.take(&batch) => permits,
        };
        let deliveries = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            received = source.receive(permits.num_permits()) => received?,
        };
        if !trying && dispatch.kill_switch.open() {
            give_back(deliveries, dispatch).await;
            continue;
        }
        for delivery in deliveries {
            let permit = permits.split(1);
            let dispatch = dispatch.clone();
            tokio::spawn(async move {
                dispatch.work(delivery).await;
                drop(permit);
            });
        }
        drop(permits);
        if trying {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = slots.idle() => {}
            }
        }
    }
    let left = source.stop().await;
    dispatch.stopped.cancel();
    give_back(left, dispatch).await;
    slots.idle().await;
    source.close().await;
    Ok(())
}

/// Waits out the kill switch. `false`: the process is shutting down.
async fn pause(dispatch: &Dispatch) -> bool {
    tokio::select! {
        () = dispatch.shutdown.cancelled() => false,
        () = tokio::time::sleep(dispatch.policy.kill_switch_pause) => true,
    }
}

async fn give_back(deliveries: Vec<Delivery>, dispatch: &Dispatch) {
    futures::future::join_all(deliveries.into_iter().map(|delivery| dispatch.release(delivery))).await;
}

/// Keeps the gauges of a queue's depth.
async fn look(broker: Broker, queue: &'static Queue) {
    let metrics = broker.metrics(queue);
    let mut timer = tokio::time::interval(LOOK_EVERY);
    loop {
        timer.tick().await;
        match broker.depth(queue).await {
            Ok(depth) => metrics.depth(&depth),
            // The consumer itself says that the broker is away.
            Err(error) => tracing::debug!(queue = queue.name, %error, "the depth is unknown"),
        }
    }
}

/// The places for handlers.
struct Slots {
    free: Arc<Semaphore>,
    all: usize,
}

impl Slots {
    /// At least one free place, and more if they are free or get free within the batch's linger.
    async fn take(&self, batch: &Batch) -> OwnedSemaphorePermit {
        const OPEN: &str = "the semaphore is never closed";
        let mut permits = self.free.clone().acquire_owned().await.expect(OPEN);
        let want = batch.most.min(self.all);
        self.top_up(&mut permits, want);
        let missing = want - permits.num_permits();
        if missing > 0 && !batch.linger.is_zero() {
            let more = self.free.clone().acquire_many_owned(missing as u32);
            match tokio::time::timeout(batch.linger, more).await {
                Ok(more) => permits.merge(more.expect(OPEN)),
                Err(_) => self.top_up(&mut permits, want),
            }
        }
        permits
    }

    fn top_up(&self, permits: &mut OwnedSemaphorePermit, want: usize) {
        let more = self.free.available_permits().min(want - permits.num_permits());
        // Only this consumer's loop takes permits, so what is available stays available.
        if let Ok(more) = self.free.clone().try_acquire_many_owned(more as u32) {
            permits.merge(more);
        }
    }

    /// Waits until no handler is at work.
    async fn idle(&self) {
        drop(self.free.acquire_many(self.all as u32).await);
    }
}
