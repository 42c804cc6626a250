use std::{collections::HashMap, time::Duration};

use contracts::Transport;

/// What a [`crate::Broker`] connects to, and which queue rides on what.
#[derive(Clone, Debug, Default)]
pub struct BrokerConfig {
    /// The service that publishes and consumes, for connection names and logs.
    pub service: String,
    /// RabbitMQ, as `amqp://user:password@host:port/vhost`. Without it, queues on `amqp` are unavailable.
    pub amqp_url: Option<String>,
    /// SQS. Without it, queues on `sqs` are unavailable.
    pub sqs: Option<SqsConfig>,
    /// Put before every name on every broker: what keeps tests apart. Empty in production.
    pub prefix: String,
    /// Queues, by logical name, that ride on something else than their contract says.
    pub transports: HashMap<String, Transport>,
}

/// Amazon SQS or LocalStack. Credentials come from the AWS SDK's default chain.
#[derive(Clone, Debug)]
pub struct SqsConfig {
    /// Where, if not AWS itself: `http://127.0.0.1:4566`.
    pub endpoint: Option<String>,
    /// The region, `us-east-1`.
    pub region: String,
    /// Physical names of queues by their logical names; others are derived (`catalog.imports` becomes
    /// `catalog-imports`), and only those take the prefix. A dead-letter queue is `<name>-dlq`.
    pub names: HashMap<String, String>,
    /// Whether missing queues are created (and re-created after LocalStack was wiped). In production they
    /// are made by whoever has the right to.
    pub create: bool,
    /// How long a message stays invisible without a heartbeat; 1 s to 12 h.
    pub visibility: Duration,
    /// How long a queue keeps a message that nobody takes; 60 s to 14 days. Dead letters stay 14 days.
    pub retention: Duration,
    /// How long one receive waits for a message; at most 20 s. A draining consumer waits for its last
    /// receive to end, because what it brought would stay invisible with nobody to work on it.
    pub wait: Duration,
}

impl Default for SqsConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".into(),
            names: HashMap::new(),
            create: false,
            visibility: Duration::from_secs(300),
            retention: Duration::from_secs(86_400),
            wait: Duration::from_secs(20),
        }
    }
}
