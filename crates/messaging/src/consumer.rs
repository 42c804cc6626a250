use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use contracts::{Message, Queue};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    Broker, Handler, Policy,
    delivery::{Delivery, Pauses},
    dispatch::{AnyHandler, Dispatch, Typed},
    kill_switch::KillSwitch,
    transport::{Batch, Source, Token},
};

/// How often a process looks how full a queue is.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long writing out what was settled for sources that had ended may take at the end.
const WRITE_WITHIN: Duration = Duration::from_secs(15);

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

    /// Gives messages of the type `replaced`, which `M` has replaced, to `handler` as `M`s that `read` makes of their
    /// data: publishers of the previous release are understood. What `read` refuses is undecodable.
    #[must_use]
    pub fn handle_replaced<M: Message>(
        mut self,
        replaced: &'static str,
        read: impl Fn(&str) -> serde_json::Result<M> + Send + Sync + 'static,
        handler: impl Handler<M>,
    ) -> Self {
        self.handlers.insert(replaced, Box::new(Typed::<M, _>::reading(handler, read)));
        self
    }

    /// Consumes until `shutdown` is cancelled, through any outage; then drains and returns: takes nothing
    /// more, gives back what was not begun, lets handlers finish or release, settles, leaves. A handler
    /// that ignores the token holds it up until its deadline.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { broker, queue, policy, handlers } = self;
        let metrics = broker.metrics(queue);
        metrics.consumer_up(false);
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
        let silent = Arc::new(Notify::new());
        let watch = watch_depth(broker.clone(), dispatch.clone(), silent.clone());
        let _watching = AbortOnDropHandle::new(tokio::spawn(watch));
        let mut pauses = Pauses::new();
        let mut orphans = Orphans::default();
        let mut writing = Vec::new();
        while !shutdown.is_cancelled() {
            let opened = tokio::select! {
                () = shutdown.cancelled() => break,
                opened = open(&broker, &dispatch, &slots) => opened,
            };
            let lost = match opened {
                Ok((mut source, prefetch)) => {
                    tracing::info!(queue = queue.name, "consuming");
                    pauses.reset();
                    metrics.consumer_up(true);
                    let fed = feed(&mut source, prefetch, &dispatch, &slots, &mut orphans, &silent).await;
                    metrics.consumer_up(false);
                    match fed {
                        Ok(()) => {
                            leave(source, &dispatch, &slots).await;
                            break;
                        }
                        Err(lost) => {
                            writing.retain(|task: &JoinHandle<()>| !task.is_finished());
                            writing.extend(source.abandon());
                            lost
                        }
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
        // Handlers that outlived the connection their message came by, and what they settled.
        slots.idle().await;
        let _ = tokio::time::timeout(WRITE_WITHIN, futures::future::join_all(writing)).await;
        tracing::info!(queue = queue.name, "drained");
    }
}

/// Opens a source, and says how many deliveries it may hold: as many as there are free places. Handlers that
/// outlived their connection have theirs: what was prefetch for these would wait for their end, hours maybe, and
/// no other worker would get it.
async fn open(broker: &Broker, dispatch: &Dispatch, slots: &Slots) -> anyhow::Result<(Source, usize)> {
    let free = slots.some_free().await;
    let policy = Policy { concurrency: free, ..dispatch.policy.clone() };
    Ok((broker.open(dispatch.queue, &policy).await?, free))
}

/// Takes deliveries from one source until the shutdown (`Ok`) or the end of the source (`Err`).
async fn feed(
    source: &mut Source,
    mut prefetch: usize,
    dispatch: &Arc<Dispatch>,
    slots: &Slots,
    orphans: &mut Orphans,
    silent: &Notify,
) -> anyhow::Result<()> {
    let shutdown = &dispatch.shutdown;
    let at_work = orphans.adopt();
    loop {
        if dispatch.kill_switch.open() && !pause(dispatch).await {
            return Ok(());
        }
        let trying = dispatch.kill_switch.open();
        let mut batch = source.batch();
        if trying {
            batch = Batch { most: 1, linger: Duration::ZERO };
        }
        let mut permits = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            permits = slots.take(&batch) => permits,
        };
        let deliveries = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = orphans.gone(), if prefetch < slots.all => {
                source.widen(slots.all - prefetch).await?;
                prefetch = slots.all;
                continue;
            }
            received = source.receive(permits.num_permits()) => received?,
            () = silent.notified() => {
                // Where this source's handlers take all that it may fetch, it is silent with reason.
                let at_work = at_work.strong_count() - 1;
                anyhow::ensure!(at_work >= prefetch, "messages wait, places are free, and nothing is delivered");
                continue;
            }
        };
        // A receive that was under way when the kill switch opened may bring more than the one that is to be tried.
        let mut deliveries = deliveries;
        let surplus = deliveries.split_off(deliveries.len().min(permits.num_permits()));
        give_back(surplus, dispatch).await;
        if !trying && dispatch.kill_switch.open() {
            give_back(deliveries, dispatch).await;
            continue;
        }
        for delivery in deliveries {
            let (permit, at_work) = (permits.split(1), at_work.clone());
            let dispatch = dispatch.clone();
            tokio::spawn(async move {
                dispatch.work(delivery).await;
                drop((permit, at_work));
            });
        }
    }
}

/// Drains a source.
async fn leave(mut source: Source, dispatch: &Dispatch, slots: &Slots) {
    let left = source.stop().await;
    dispatch.stopped.cancel();
    give_back(left, dispatch).await;
    slots.idle().await;
    source.close().await;
}

/// Waits out the kill switch: for one pause, or until a message succeeds. `false`: the process is shutting down.
/// A message that is being tried is not waited for, because it may take hours.
async fn pause(dispatch: &Dispatch) -> bool {
    tokio::select! {
        () = dispatch.shutdown.cancelled() => false,
        () = dispatch.kill_switch.closed() => true,
        () = tokio::time::sleep(dispatch.policy.kill_switch_pause) => true,
    }
}

/// Handlers whose source has ended while they were at work.
#[derive(Default)]
struct Orphans {
    /// One a source that has ended, and the last for the one that is open: closed when its handlers have ended.
    sources: Vec<mpsc::Receiver<Infallible>>,
}

impl Orphans {
    /// Begins with a new source; its handlers hold the sender, and those before are orphans.
    fn adopt(&mut self) -> mpsc::Sender<Infallible> {
        let (at_work, ended) = mpsc::channel(1);
        self.sources.retain(|source| !source.is_closed());
        self.sources.push(ended);
        at_work
    }

    /// Waits until there are none. Cancel-safe.
    async fn gone(&mut self) {
        while self.sources.len() > 1 {
            // Nothing is ever sent: this is the end of the last sender.
            let _ = self.sources[0].recv().await;
            self.sources.remove(0);
        }
    }
}

async fn give_back(deliveries: Vec<Delivery<Token>>, dispatch: &Dispatch) {
    futures::future::join_all(deliveries.into_iter().map(|delivery| dispatch.release(delivery))).await;
}

/// Keeps the gauges of a queue's depth, and tells when the consumer has gone silent: something waits, places are free,
/// and from one look to the next nothing came. RabbitMQ 3.10 leaves a consumer so whose queue was deleted and made again
/// at once, without a word.
async fn watch_depth(broker: Broker, dispatch: Arc<Dispatch>, silent: Arc<Notify>) {
    let (queue, metrics) = (dispatch.queue, &dispatch.metrics);
    let mut timer = tokio::time::interval(LOOK_EVERY);
    let mut delivered_when_idle = None;
    loop {
        timer.tick().await;
        match broker.depth(queue).await {
            Ok(depth) => {
                metrics.depth(&depth);
                let at_work = usize::try_from(metrics.in_flight.get()).unwrap_or(0);
                let idle = broker.pushes(queue)
                    && depth.ready > 0
                    && at_work < dispatch.policy.concurrency
                    && !dispatch.kill_switch.open();
                let delivered = idle.then(|| metrics.delivered.get());
                if delivered.is_some() && delivered == delivered_when_idle {
                    // Only a consumer that waits is told.
                    silent.notify_waiters();
                }
                delivered_when_idle = delivered;
            }
            Err(error) => {
                delivered_when_idle = None;
                // The consumer itself says that the broker is away.
                tracing::debug!(queue = queue.name, %error, "the depth is unknown");
            }
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

    /// Waits for a free place, and says how many there are.
    async fn some_free(&self) -> usize {
        drop(self.free.acquire().await);
        self.free.available_permits()
    }

    /// Waits until no handler is at work.
    async fn idle(&self) {
        drop(self.free.acquire_many(self.all as u32).await);
    }
}
