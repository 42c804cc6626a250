use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use contracts::Message;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::JobError;

/// Processes one kind of message. Delivery is at least once, and two deliveries of one message can run
/// at the same time: a handler commits its effect with an inbox row, or holds a job's lease.
#[async_trait]
pub trait Handler<M: Message>: Send + Sync + 'static {
    /// Returns when the effect is durable; only then is the message acknowledged.
    async fn handle(&self, message: M, context: &Context) -> Result<(), JobError>;
}

/// What a handler may want to know about the delivery that it processes.
#[derive(Clone, Debug)]
pub struct Context {
    /// The envelope's id: the same over retries and replays.
    pub id: Uuid,
    /// The envelope's type.
    pub kind: String,
    /// The sender, as `/lote/<service>`.
    pub source: String,
    /// What the message is about.
    pub subject: Option<String>,
    /// When the message was written.
    pub time: DateTime<Utc>,
    /// The request or schedule that all began with.
    pub correlation_id: Option<String>,
    /// The logical queue it came by.
    pub queue: &'static str,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The policy's last attempt.
    pub max_attempts: u32,
    /// How long this attempt may take; the runtime drops the handler's future after it.
    pub deadline: Duration,
    /// Cancelled when the process drains: a long handler stops at its next checkpoint and returns
    /// [`JobError::Release`].
    pub shutdown: CancellationToken,
}
