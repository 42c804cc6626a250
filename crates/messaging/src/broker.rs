use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use contracts::{Queue, Transport};
use tokio::sync::Notify;

use crate::{
    BrokerConfig, DeadLetter, Destination, Letters, Outgoing, Policy, PublishError,
    memory::Memory,
    metrics::{self, QueueMetrics},
    rabbit::{self, Rabbit},
    sqs::{self, Sqs},
    transport::{LetterSource, Source},
};

/// How long a transport may take to answer a ping.
const PING_WITHIN: Duration = Duration::from_secs(2);

/// The way to the queues: publishes, declares, looks. Cheap to clone; connects when first used.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    /// Queues that ride on something else than their contract says.
    transports: HashMap<String, Transport>,
    rabbit: Option<Rabbit>,
    sqs: Option<Sqs>,
    /// In a broker of this process, everything rides on memory.
    memory: Option<Memory>,
    known: Mutex<BTreeMap<&'static str, Known>>,
    /// Told when RabbitMQ turns out to lack something that should be there.
    incomplete: Arc<Notify>,
}

struct Known {
    queue: &'static Queue,
    metrics: Arc<QueueMetrics>,
}

/// Why a queue is not there as it should be.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// The broker has it with other settings, and can't change them: somebody has to migrate it.
    #[error("{queue} is there with other settings: {said}")]
    OtherSettings {
        /// The queue's logical name.
        queue: &'static str,
        /// What the broker said.
        said: String,
    },
    /// The broker can't be reached, or refused.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages waiting to be taken.
    pub ready: u64,
    /// Messages taken and not settled. RabbitMQ does not tell over AMQP: there, those that handlers of
    /// this process are at work on. On SQS, those waiting for their retry too.
    pub in_flight: u64,
    /// Messages in the broker's dead-letter queue.
    pub dead: u64,
    /// Age of the oldest job waiting, or where nobody tells of jobs ([`Broker::jobs_wait`]) of the oldest message, as far
    /// as this process's consumer has seen it: no broker tells.
    pub oldest_age: Option<Duration>,
}

impl Broker {
    /// A broker by configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// A configuration that can't work: an address that is none, a queue of events on SQS, a queue on a
    /// transport that is not configured.
    pub fn new(config: BrokerConfig) -> anyhow::Result<Self> {
        let BrokerConfig { service, amqp_url, sqs, prefix, transports } = config;
        for (queue, transport) in &transports {
            let configured = match transport {
                Transport::Amqp => amqp_url.is_some(),
                Transport::Sqs => sqs.is_some(),
                Transport::Memory => false,
            };
            let transport = transport.name();
            anyhow::ensure!(configured, "queue {queue} is to ride on {transport}, which is not configured");
            let events =
                contracts::QUEUES.iter().any(|known| known.name == queue && !known.events.is_empty());
            anyhow::ensure!(!events || transport == "amqp", "queue {queue} receives events and needs amqp");
        }
        let incomplete = Arc::new(Notify::new());
        let rabbit =
            amqp_url.map(|url| Rabbit::new(&url, &service, &prefix, incomplete.clone())).transpose()?;
        let sqs = sqs.map(|sqs| Sqs::new(sqs, &prefix));
        Ok(Self::with(Inner { transports, rabbit, sqs, memory: None, known: Mutex::default(), incomplete }))
    }

    /// Queues in this process, for unit tests: delivery, retry and failure only.
    pub fn memory() -> Self {
        Self::with(Inner {
            transports: HashMap::new(),
            rabbit: None,
            sqs: None,
            memory: Some(Memory::default()),
            known: Mutex::default(),
            incomplete: Arc::default(),
        })
    }

    fn with(inner: Inner) -> Self {
        let broker = Self { inner: Arc::new(inner) };
        for queue in contracts::QUEUES {
            broker.know(queue);
        }
        broker
    }

    /// Publishes, and waits until the broker has confirmed. One result a message, in their order. Messages
    /// are sent together: give many at once where there are many.
    pub async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let mut results: Vec<Result<(), PublishError>> = Vec::with_capacity(messages.len());
        let mut frames = (Vec::new(), Vec::new());
        let mut bodies: BTreeMap<&'static str, (Vec<usize>, Vec<bytes::Bytes>)> = BTreeMap::new();
        for (index, message) in messages.iter().enumerate() {
            results.push(match self.route(message) {
                Way::Rabbit(frame) => {
                    frames.0.push(index);
                    frames.1.push(*frame);
                    Ok(())
                }
                Way::Sqs(queue) => {
                    let (places, of_queue) = bodies.entry(queue).or_default();
                    places.push(index);
                    of_queue.push(message.body.clone());
                    Ok(())
                }
                Way::Memory => Ok(()),
                Way::None(error) => Err(error),
            });
        }
        let ((from_rabbit, confirmed), sent) =
            tokio::join!(self.publish_rabbit(frames.0, frames.1), self.publish_sqs(bodies));
        for (index, result) in from_rabbit.into_iter().zip(confirmed) {
            let destination = || messages[index].destination.clone();
            results[index] = result.map_err(|failed| match failed {
                rabbit::Failed::Unavailable(error) => PublishError::Unavailable(error),
                rabbit::Failed::Unroutable => PublishError::Unroutable(destination()),
            });
            count("amqp", &results[index]);
        }
        for (index, result) in sent {
            let destination = || messages[index].destination.clone();
            results[index] = result.map_err(|failed| match failed {
                sqs::Failed::Unavailable(error) => PublishError::Unavailable(error),
                sqs::Failed::Missing => PublishError::Unroutable(destination()),
                sqs::Failed::Refused(reason) => PublishError::Refused { destination: destination(), reason },
            });
            count("sqs", &results[index]);
        }
        results
    }

    async fn publish_rabbit(
        &self,
        places: Vec<usize>,
        frames: Vec<rabbit::Frame>,
    ) -> (Vec<usize>, Vec<Result<(), rabbit::Failed>>) {
        match &self.inner.rabbit {
            Some(rabbit) if !frames.is_empty() => (places, rabbit.publish(frames).await),
            _ => (Vec::new(), Vec::new()),
        }
    }

    async fn publish_sqs(
        &self,
        bodies: BTreeMap<&'static str, (Vec<usize>, Vec<bytes::Bytes>)>,
    ) -> Vec<(usize, Result<(), sqs::Failed>)> {
        let Some(sqs) = &self.inner.sqs else { return Vec::new() };
        // A loop, not a closure over borrowed data: its future would not be `Send` for every lifetime, and
        // no task that publishes could be spawned.
        let mut queues = Vec::with_capacity(bodies.len());
        for (queue, (places, bodies)) in bodies {
            queues.push(async move {
                places.into_iter().zip(sqs.publish(queue, &bodies).await).collect::<Vec<_>>()
            });
        }
        futures::future::join_all(queues).await.into_iter().flatten().collect()
    }

    fn route(&self, message: &Outgoing) -> Way {
        let absent = |transport: Transport| {
            Way::None(PublishError::Unavailable(format!("{} is not configured", transport.name())))
        };
        match &message.destination {
            Destination::Queue(name) => {
                let Some(queue) = self.known(name) else {
                    return Way::None(PublishError::Unroutable(message.destination.clone()));
                };
                match (self.transport(queue), &self.inner.rabbit, &self.inner.sqs, &self.inner.memory) {
                    (Transport::Amqp, Some(rabbit), _, _) => {
                        Way::Rabbit(Box::new(rabbit.to_queue(queue.name, message)))
                    }
                    (Transport::Sqs, _, Some(_), _) => Way::Sqs(queue.name),
                    (Transport::Memory, _, _, Some(memory)) => {
                        memory.publish(queue.name, message.body.clone());
                        Way::Memory
                    }
                    (transport, ..) => absent(transport),
                }
            }
            Destination::Event(key) => {
                let subscribers = self.subscribers(key);
                match (&self.inner.rabbit, &self.inner.memory) {
                    (_, Some(memory)) => {
                        for queue in subscribers {
                            memory.publish(queue.name, message.body.clone());
                        }
                        Way::Memory
                    }
                    (Some(rabbit), None) => {
                        Way::Rabbit(Box::new(rabbit.to_events(key, !subscribers.is_empty(), message)))
                    }
                    (None, None) => absent(Transport::Amqp),
                }
            }
        }
    }

    /// Makes the exchange of events, and for each queue the queue itself, its dead-letter queue and its
    /// bindings. Idempotent. What is there with other settings stays as it is, and the rest is made. (Retry queues
    /// are made by the consumer, whose policy they come from.) [`crate::TopologyKeeper`] does this for a process.
    ///
    /// # Errors
    /// A broker that can't be reached, or has such a queue with other settings: of several, the first.
    pub async fn declare(&self, queues: &[&'static Queue]) -> Result<(), DeclareError> {
        let declaring = queues.iter().map(|queue| self.declare_one(queue));
        futures::future::join_all(declaring).await.into_iter().collect()
    }

    pub(crate) async fn declare_one(&self, queue: &'static Queue) -> Result<(), DeclareError> {
        self.know(queue);
        match self.transport(queue) {
            Transport::Amqp => {
                let others = self.rabbit()?.declare(queue).await?;
                if others.is_empty() {
                    return Ok(());
                }
                Err(DeclareError::OtherSettings { queue: queue.name, said: others.join("; ") })
            }
            Transport::Sqs => {
                if !queue.events.is_empty() {
                    return Err(anyhow::anyhow!("{} receives events and needs amqp", queue.name).into());
                }
                Ok(self.sqs()?.declare(queue.name).await?)
            }
            Transport::Memory => Ok(()),
        }
    }

    /// Whether a process declares this queue at all: on SQS, only where it may make queues.
    pub(crate) fn declares(&self, queue: &Queue) -> bool {
        match self.transport(queue) {
            Transport::Amqp => self.inner.rabbit.is_some(),
            Transport::Sqs => self.inner.sqs.as_ref().is_some_and(Sqs::makes_queues),
            Transport::Memory => false,
        }
    }

    /// Whether the broker sends messages by itself, and a consumer only waits for them.
    pub(crate) fn pushes(&self, queue: &Queue) -> bool {
        self.transport(queue) == Transport::Amqp
    }

    /// Waits until RabbitMQ turns out to lack something that should be there.
    pub(crate) async fn incomplete(&self) {
        self.inner.incomplete.notified().await;
    }

    /// How full a queue and its dead-letter queue are.
    ///
    /// # Errors
    /// A broker that can't be reached, a queue that is not there.
    pub async fn depth(&self, queue: &'static Queue) -> anyhow::Result<Depth> {
        let metrics = self.metrics(queue);
        let mut depth = match self.transport(queue) {
            Transport::Amqp => {
                let in_flight = u64::try_from(metrics.in_flight.get()).unwrap_or(0);
                Depth { in_flight, ..self.rabbit()?.depth(queue).await? }
            }
            Transport::Sqs => self.sqs()?.depth(queue.name).await?,
            Transport::Memory => self.memory_queues()?.depth(queue.name),
        };
        depth.oldest_age = metrics.oldest_age(depth.ready > 0, Utc::now());
        Ok(depth)
    }

    /// Takes note since when the oldest job of a queue waits, by this process's clock; `None`: none waits.
    pub fn jobs_wait(&self, queue: &'static Queue, since: Option<DateTime<Utc>>) {
        self.metrics(queue).jobs_wait(since, Utc::now());
    }

    /// Asks each transport in use whether it answers, within two seconds; `Err` says why not.
    pub async fn ping(&self) -> Vec<(Transport, Result<(), String>)> {
        let said = |answer: Result<anyhow::Result<()>, tokio::time::error::Elapsed>| match answer {
            Ok(answer) => answer.map_err(|error| format!("{error:#}")),
            Err(_) => Err(format!("no answer within {} s", PING_WITHIN.as_secs())),
        };
        let rabbit = async {
            let rabbit = self.inner.rabbit.as_ref()?;
            Some((Transport::Amqp, said(tokio::time::timeout(PING_WITHIN, rabbit.ping()).await)))
        };
        let sqs = async {
            let sqs = self.inner.sqs.as_ref()?;
            Some((Transport::Sqs, said(tokio::time::timeout(PING_WITHIN, sqs.ping()).await)))
        };
        let (rabbit, sqs) = tokio::join!(rabbit, sqs);
        rabbit.into_iter().chain(sqs).collect()
    }

    /// The letters in a queue's dead-letter queue, for an archiver to take.
    pub fn letters(&self, queue: &'static Queue) -> Letters {
        self.know(queue);
        Letters::new(self, queue)
    }

    pub(crate) async fn open(&self, queue: &'static Queue, policy: &Policy) -> anyhow::Result<Source> {
        match self.transport(queue) {
            Transport::Amqp => {
                let prefetch = u16::try_from(policy.concurrency).unwrap_or(u16::MAX);
                Ok(Source::Rabbit(Box::new(self.rabbit()?.open(queue, prefetch, &policy.backoff).await?)))
            }
            Transport::Sqs => Ok(Source::Sqs(self.sqs()?.open(queue).await?)),
            Transport::Memory => Ok(Source::Memory(self.memory_queues()?.open(queue.name))),
        }
    }

    pub(crate) async fn open_letters(&self, queue: &'static Queue) -> anyhow::Result<LetterSource> {
        match self.transport(queue) {
            Transport::Amqp => {
                Ok(LetterSource::Rabbit(Box::new(self.rabbit()?.letters(queue, Letters::HELD as u16).await?)))
            }
            Transport::Sqs => Ok(LetterSource::Sqs(self.sqs()?.letters(queue).await?)),
            Transport::Memory => Ok(LetterSource::Memory),
        }
    }

    pub(crate) async fn memory_letter(&self, queue: &'static Queue) -> anyhow::Result<DeadLetter> {
        Ok(self.memory_queues()?.letter(queue.name).await)
    }

    /// SQS counts what a drain gave back like a delivery that failed: some of those are free.
    pub(crate) fn allowance(&self, queue: &Queue) -> u32 {
        if self.transport(queue) == Transport::Sqs { 10 } else { 0 }
    }

    /// Takes note of a queue that the contracts don't list (tests have their own).
    pub(crate) fn know(&self, queue: &'static Queue) {
        let mut known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .entry(queue.name)
            .or_insert_with(|| Known { queue, metrics: Arc::new(QueueMetrics::of(queue.name)) });
    }

    pub(crate) fn metrics(&self, queue: &'static Queue) -> Arc<QueueMetrics> {
        let mut known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known
            .entry(queue.name)
            .or_insert_with(|| Known { queue, metrics: Arc::new(QueueMetrics::of(queue.name)) });
        known.metrics.clone()
    }

    fn known(&self, name: &str) -> Option<&'static Queue> {
        let known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(|known| known.queue)
    }

    fn subscribers(&self, key: &str) -> Vec<&'static Queue> {
        let known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|known| known.queue).filter(|queue| queue.events.contains(&key)).collect()
    }

    fn transport(&self, queue: &Queue) -> Transport {
        if self.inner.memory.is_some() {
            return Transport::Memory;
        }
        self.inner.transports.get(queue.name).copied().unwrap_or(queue.transport)
    }

    fn rabbit(&self) -> anyhow::Result<&Rabbit> {
        self.inner.rabbit.as_ref().context("amqp is not configured")
    }

    fn sqs(&self) -> anyhow::Result<&Sqs> {
        self.inner.sqs.as_ref().context("sqs is not configured")
    }

    fn memory_queues(&self) -> anyhow::Result<&Memory> {
        self.inner.memory.as_ref().context("queues in memory need Broker::memory()")
    }
}

/// Where a message leaves.
enum Way {
    Rabbit(Box<rabbit::Frame>),
    Sqs(&'static str),
    /// Already there.
    Memory,
    None(PublishError),
}

fn count(transport: &str, result: &Result<(), PublishError>) {
    let outcome = match result {
        Ok(()) => "confirmed",
        Err(PublishError::Unavailable(_)) => "unavailable",
        Err(PublishError::Unroutable(_)) => "unroutable",
        Err(PublishError::Refused { .. }) => "refused",
    };
    metrics::published(transport, outcome);
}
