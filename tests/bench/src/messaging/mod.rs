mod bare;
mod latency;
mod outbox_rate;
mod rabbit_rate;
mod sqs;

use anyhow::Result;
use contracts::{Message, Queue, Route, Routed, Transport};
use lapin::options::QueuePurgeOptions;
use lapin::{Connection, ConnectionProperties};
use messaging::{Broker, BrokerConfig, Envelope, Outgoing, SqsConfig};
use serde::{Deserialize, Serialize};
use stack::{Namespace, Stack};
use std::time::Duration;

/// Handlers at work at once, and so the prefetch.
pub const CONCURRENCY: usize = 200;

/// The queue that is measured.
pub static WORK: Queue = Queue { name: "bench.work", transport: Transport::Amqp, events: &[] };

/// Its counterpart on SQS.
pub static WORK_ON_SQS: Queue = Queue { name: "bench.sqs", transport: Transport::Sqs, events: &[] };

/// A message about as large as a nudge.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tick {
    /// Nanoseconds since the start of the run.
    pub sent: u64,
}

impl Message for Tick {
    const TYPE: &'static str = "lote.bench.v1.Tick";
}

impl Routed for Tick {
    const ROUTE: Route = Route::Command(&WORK);
}

/// The same, over SQS.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tock {
    /// Its number.
    pub number: u64,
}

impl Message for Tock {
    const TYPE: &'static str = "lote.bench.v1.Tock";
}

impl Routed for Tock {
    const ROUTE: Route = Route::Command(&WORK_ON_SQS);
}

/// What each figure needs.
pub struct Bench {
    namespace: Namespace,
    broker: Broker,
}

impl Bench {
    /// A broker of its own: each figure has its own connections, as processes have.
    pub fn broker(&self) -> Result<Broker> {
        let servers = self.namespace.servers();
        Broker::new(BrokerConfig {
            service: "bench".to_owned(),
            amqp_url: Some(servers.amqp_url.clone()),
            sqs: Some(SqsConfig {
                endpoint: Some(servers.aws_endpoint.clone()),
                create: true,
                wait: Duration::from_secs(1),
                ..SqsConfig::default()
            }),
            prefix: self.namespace.queue_prefix.clone(),
            ..BrokerConfig::default()
        })
    }

    fn amqp_url(&self) -> &str {
        &self.namespace.servers().amqp_url
    }

    /// The name of [`WORK`] in RabbitMQ.
    fn work(&self) -> String {
        format!("{}{}", self.namespace.queue_prefix, WORK.name)
    }

    /// Leaves nothing in [`WORK`] of the figure before: what was published twice is in it still.
    async fn empty(&self) -> Result<()> {
        let connection = Connection::connect(self.amqp_url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.queue_purge(self.work().as_str().into(), QueuePurgeOptions::default()).await?;
        connection.close(200, "done".into()).await?;
        Ok(())
    }

    /// Fills [`WORK`] with `count` messages; returns how long that took.
    async fn fill(&self, count: usize) -> Result<Duration> {
        let messages = outgoing(count, |_| Tick { sent: 0 })?;
        let started = std::time::Instant::now();
        publish(&self.broker, &messages).await?;
        Ok(started.elapsed())
    }
}

/// Publishes in batches as large as the relay's.
pub async fn publish(broker: &Broker, messages: &[Outgoing]) -> Result<()> {
    for batch in messages.chunks(500) {
        for result in broker.publish(batch).await {
            result?;
        }
    }
    Ok(())
}

/// `count` messages in their envelopes.
pub fn outgoing<M: Routed>(count: usize, message: impl Fn(usize) -> M) -> Result<Vec<Outgoing>> {
    (0..count).map(|number| Ok(Outgoing::new::<M>(&Envelope::new("bench", &message(number))?)?)).collect()
}

/// Measures what is wanted, on servers of its own that are as durable as in production.
pub async fn measure(wanted: impl Fn(&str) -> bool) -> Result<()> {
    let dir = stack::home().join(format!("bench/messaging-{}", stack::random_hex(3)));
    let stack = Stack::start(&dir).await?;
    let namespace = Namespace::create_on(&stack.servers(), "bench").await?;
    let servers = namespace.servers().clone();
    let prefix = namespace.queue_prefix.clone();
    let config = BrokerConfig {
        service: "bench".to_owned(),
        amqp_url: Some(servers.amqp_url),
        prefix,
        ..BrokerConfig::default()
    };
    let broker = Broker::new(config)?;
    broker.declare(&[&WORK]).await?;
    let bench = Bench { namespace, broker };
    if wanted("rabbitmq") || wanted("rabbitmq_inbox") || wanted("publish_confirmed") {
        rabbit_rate::measure(&bench).await?;
    }
    if wanted("outbox") {
        outbox_rate::measure(&bench).await?;
    }
    if wanted("sqs_calls") {
        sqs::measure(&bench).await?;
    }
    if wanted("latency") {
        latency::measure(&bench).await?;
    }
    bench.namespace.cleanup().await?;
    stack.remove().await
}
