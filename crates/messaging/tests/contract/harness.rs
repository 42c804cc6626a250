//! What the tests share: a broker in a namespace of its own, handlers by closure, and waiting with a limit.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use contracts::{Message as _, Queue, Transport, catalog::v1::ProcessImport};
use messaging::{
    Backoff, Broker, BrokerConfig, Consumer, Context, DeadLetter, Destination, Envelope, Handler, JobError,
    Outgoing, Policy, PublishError, SqsConfig,
};
use opentelemetry::trace::TracerProvider as _;
use stack::{Namespace, proxy::Proxy};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{Layer as _, layer::SubscriberExt as _};
use uuid::Uuid;

/// The queue of commands that most tests use; each in its own namespace.
pub static WORK: Queue = Queue { name: "test.work", transport: Transport::Amqp, events: &[] };

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// SQS counts visibility in seconds; this is the time after which a dead consumer's message comes again.
pub const VISIBILITY: Duration = Duration::from_secs(2);

/// A broker in a namespace, with nothing in the way.
pub struct Rig {
    pub broker: Broker,
    pub transport: Transport,
    pub config: BrokerConfig,
    _namespace: Option<Namespace>,
}

impl Rig {
    /// With [`WORK`] declared.
    pub async fn new(transport: Transport) -> Result<Self> {
        let rig = Self::bare(transport).await?;
        rig.broker.declare(&[&WORK]).await?;
        Ok(rig)
    }

    /// With nothing declared.
    pub async fn bare(transport: Transport) -> Result<Self> {
        if transport == Transport::Memory {
            let (broker, config) = (Broker::memory(), BrokerConfig::default());
            return Ok(Self { broker, transport, config, _namespace: None });
        }
        stack::install_tls();
        collect_traces();
        let namespace = Namespace::create("messaging").await?;
        let servers = namespace.servers();
        let sqs = SqsConfig {
            endpoint: Some(servers.aws_endpoint.clone()),
            create: true,
            visibility: VISIBILITY,
            wait: Duration::from_secs(1),
            ..Default::default()
        };
        let config = BrokerConfig {
            service: "test".into(),
            amqp_url: Some(servers.amqp_url.clone()),
            sqs: Some(sqs),
            prefix: match transport {
                Transport::Sqs => namespace.sqs_prefix.clone(),
                _ => namespace.queue_prefix.clone(),
            },
            transports: HashMap::from([(WORK.name.to_owned(), transport)]),
        };
        let broker = Broker::new(config.clone())?;
        Ok(Self { broker, transport, config, _namespace: Some(namespace) })
    }

    /// Another broker on the same queues, behind a proxy that can fail.
    pub async fn behind_proxy(&self) -> Result<(Proxy, Broker)> {
        let mut config = self.config.clone();
        let proxy = match (self.transport, &mut config.sqs) {
            (Transport::Sqs, Some(sqs)) => {
                let (proxy, url) = Proxy::before(sqs.endpoint.as_deref().context("an endpoint")?).await?;
                sqs.endpoint = Some(url);
                proxy
            }
            _ => {
                let (proxy, url) = Proxy::before(config.amqp_url.as_deref().context("an address")?).await?;
                config.amqp_url = Some(url);
                proxy
            }
        };
        let broker = Broker::new(config)?;
        broker.declare(&[&WORK]).await?;
        Ok((proxy, broker))
    }

    /// Publishes a command named `task` to [`WORK`].
    pub async fn send(&self, task: &str) -> Result<Uuid> {
        let message = command(task)?;
        self.broker.publish(std::slice::from_ref(&message)).await.remove(0)?;
        Ok(message.id)
    }

    /// Publishes any bytes to [`WORK`].
    pub async fn send_raw(&self, body: impl Into<Bytes>) -> Result<()> {
        Ok(self.broker.publish(&[raw(body)]).await.remove(0)?)
    }

    /// Starts a consumer of [`WORK`].
    pub fn consume<F, R>(&self, policy: Policy, handler: F) -> Running
    where
        F: Fn(String, Context) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        consume(&self.broker, policy, handler)
    }

    /// The next dead letter of [`WORK`].
    pub async fn letter(&self) -> Result<DeadLetter> {
        within(self.broker.letters(&WORK).next()).await
    }

    /// Waits until the queue holds nothing, in no state but dead.
    pub async fn empty(&self) -> Result<()> {
        until("the queue is empty", async || {
            let depth = self.broker.depth(&WORK).await?;
            Ok(depth.ready == 0 && (self.transport != Transport::Sqs || depth.in_flight == 0))
        })
        .await
    }
}

/// Spans of all tests belong to traces, and `RUST_LOG` shows what happens. A subscriber for one test alone
/// would miss spans whose place in the code another test, without one, came by first.
pub fn collect_traces() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let log = tracing_subscriber::fmt::layer()
            .with_test_writer()
            .with_filter(tracing_subscriber::EnvFilter::from_default_env());
        let layers = tracing_subscriber::registry()
            .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")))
            .with(log);
        tracing::subscriber::set_global_default(layers).expect("nobody else sets one in this process");
    });
}

/// A command on its way to [`WORK`].
pub fn command(task: &str) -> Result<Outgoing> {
    let message = ProcessImport { task_id: task.to_owned() };
    let mut envelope = Envelope::new("test", &message)?.about(task);
    envelope.correlation_id = Some(format!("correlation of {task}"));
    Ok(outgoing(&envelope)?)
}

/// An envelope on its way to [`WORK`].
pub fn outgoing(envelope: &Envelope) -> serde_json::Result<Outgoing> {
    let body = serde_json::to_vec(envelope)?.into();
    let destination = Destination::Queue(WORK.name.into());
    Ok(Outgoing { destination, id: envelope.id, kind: ProcessImport::TYPE.into(), body })
}

/// Any bytes on their way to [`WORK`].
pub fn raw(body: impl Into<Bytes>) -> Outgoing {
    let destination = Destination::Queue(WORK.name.into());
    Outgoing { destination, id: Uuid::now_v7(), kind: "raw".into(), body: body.into() }
}

/// A policy whose pauses a test can wait for.
pub fn quick() -> Policy {
    Policy {
        concurrency: 4,
        deadline: Duration::from_secs(20),
        max_attempts: 3,
        backoff: Backoff { steps: [60, 200].map(Duration::from_millis).to_vec() },
        kill_switch_after: 0,
        ..Policy::default()
    }
}

struct Script<F>(F);

#[async_trait]
impl<F, R> Handler<ProcessImport> for Script<F>
where
    F: Fn(String, Context) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), JobError>> + Send + 'static,
{
    async fn handle(&self, message: ProcessImport, context: &Context) -> Result<(), JobError> {
        (self.0)(message.task_id, context.clone()).await
    }
}

/// Starts a consumer of [`WORK`] whose handler gets the task's name.
pub fn consume<F, R>(broker: &Broker, policy: Policy, handler: F) -> Running
where
    F: Fn(String, Context) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), JobError>> + Send + 'static,
{
    consume_from(broker, &WORK, policy, handler)
}

/// Starts a consumer of another queue.
pub fn consume_from<F, R>(broker: &Broker, queue: &'static Queue, policy: Policy, handler: F) -> Running
where
    F: Fn(String, Context) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), JobError>> + Send + 'static,
{
    let consumer = Consumer::new(broker, queue).policy(policy).handle::<ProcessImport>(Script(handler));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(consumer.run(shutdown.clone()));
    Running { shutdown, task }
}

/// A consumer at work.
pub struct Running {
    pub shutdown: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Running {
    /// Shuts it down and waits until it has drained.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        Ok(within(self.task).await??)
    }
}

/// A channel on which handlers tell the test what they do.
pub fn reports<T>() -> (UnboundedSender<T>, Reports<T>) {
    let (sender, receiver) = unbounded_channel();
    (sender, Reports(receiver))
}

/// The test's end of it.
pub struct Reports<T>(UnboundedReceiver<T>);

impl<T> Reports<T> {
    /// The next report.
    pub async fn next(&mut self) -> Result<T> {
        within(self.0.recv()).await?.context("the handler is gone")
    }

    /// So many reports.
    pub async fn take(&mut self, count: usize) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            all.push(self.next().await?);
        }
        Ok(all)
    }

    /// What was reported and not taken.
    pub fn rest(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

/// Waits with a limit.
pub async fn within<T>(work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, work).await.context("nothing happened in time")
}

/// Asks again and again until it is so.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let asking = async {
        loop {
            if so().await? {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.with_context(|| format!("not in time: {what}"))?
}

/// Publishes until the broker takes it, as the outbox does.
pub async fn insist(broker: &Broker, message: &Outgoing) -> Result<()> {
    until("the broker takes the message", async || {
        match broker.publish(std::slice::from_ref(message)).await.remove(0) {
            Ok(()) => Ok(true),
            Err(PublishError::Unavailable(_)) => Ok(false),
            Err(other) => Err(other.into()),
        }
    })
    .await
}
