//! One delivery: read, handled within its deadline, settled. Written once for all transports.

use std::{any::Any, borrow::Cow, collections::HashMap, panic::AssertUnwindSafe, pin::Pin};

use chrono::{DateTime, Utc};
use contracts::{Message, Queue};
use failpoints::Point;
use futures::FutureExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    Context, Handler, JobError, Policy,
    delivery::{Delivery, Failure, Pauses, SettleError, Verdict},
    kill_switch::KillSwitch,
    metrics::QueueMetrics,
    trace,
    transport::Token,
};

/// A handler whose message type is forgotten, so that handlers of many types share a map.
pub(crate) trait AnyHandler: Send + Sync {
    fn call<'a>(&'a self, data: &'a str, context: &'a Context) -> Call<'a>;
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;

/// Why a call did not succeed.
pub(crate) enum Fault {
    Undecodable(serde_json::Error),
    Job(JobError),
}

/// Makes a message of an envelope's data.
type Read<M> = Box<dyn Fn(&str) -> serde_json::Result<M> + Send + Sync>;

pub(crate) struct Typed<M, H> {
    handler: H,
    read: Read<M>,
}

impl<M: Message, H> Typed<M, H> {
    pub fn new(handler: H) -> Self {
        Self::reading(handler, |data| serde_json::from_str(data))
    }

    pub fn reading(handler: H, read: impl Fn(&str) -> serde_json::Result<M> + Send + Sync + 'static) -> Self {
        Self { handler, read: Box::new(read) }
    }
}

impl<M: Message, H: Handler<M>> AnyHandler for Typed<M, H> {
    fn call<'a>(&'a self, data: &'a str, context: &'a Context) -> Call<'a> {
        Box::pin(async move {
            let message = (self.read)(data).map_err(Fault::Undecodable)?;
            self.handler.handle(message, context).await.map_err(Fault::Job)
        })
    }
}

/// An [`crate::Envelope`] as it is read: from the bytes, its data left for the handler's own type.
#[derive(Deserialize)]
struct Incoming<'a> {
    id: Uuid,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(default)]
    subject: Option<String>,
    time: DateTime<Utc>,
    #[serde(default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(rename = "correlationid", default)]
    correlation_id: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What all deliveries of a consumer share.
pub(crate) struct Dispatch {
    pub queue: &'static Queue,
    pub policy: Policy,
    pub handlers: HashMap<&'static str, Box<dyn AnyHandler>>,
    pub metrics: std::sync::Arc<QueueMetrics>,
    pub kill_switch: KillSwitch,
    pub shutdown: CancellationToken,
    /// Cancelled when nothing more can arrive, because of the shutdown.
    pub stopped: CancellationToken,
    /// Deliveries beyond the policy's attempts before a message counts as one that kills its worker: where
    /// the transport counts what we only gave back.
    pub allowance: u32,
}

impl Dispatch {
    /// Works one delivery off.
    pub async fn work(&self, delivery: Delivery<Token>) {
        self.metrics.delivered.inc();
        self.metrics.in_flight.inc();
        let work = async {
            let verdict = self.judge(&delivery).await;
            failpoints::hit(Point::HandlerReturned);
            if matches!(verdict, Verdict::Release) && self.shutdown.is_cancelled() {
                // Given back any sooner, it might come back to this very consumer.
                self.stopped.cancelled().await;
            }
            self.settle(&delivery, &verdict).await;
        };
        keeping(&delivery, work).await;
        self.metrics.in_flight.dec();
    }

    /// Gives a delivery back that was not begun.
    pub async fn release(&self, delivery: Delivery<Token>) {
        keeping(&delivery, self.settle(&delivery, &Verdict::Release)).await;
    }

    async fn judge(&self, delivery: &Delivery<Token>) -> Verdict {
        let incoming: Incoming<'_> = match serde_json::from_slice(&delivery.body) {
            Ok(incoming) => incoming,
            Err(error) => return self.dead(delivery, "undecodable", format!("no envelope: {error}")),
        };
        self.metrics.took(incoming.time);
        let Some(handler) = self.handlers.get(incoming.kind.as_ref()) else {
            return self.dead(delivery, "unknown_type", format!("no handler for {}", incoming.kind));
        };
        if delivery.attempt > self.policy.max_attempts.saturating_add(self.allowance) {
            let error = format!("delivered {} times, and no attempt came to an end", delivery.attempt);
            return self.dead(delivery, "attempts", error);
        }
        let span = tracing::info_span!(
            "process",
            otel.kind = "consumer",
            queue = self.queue.name,
            message = %incoming.id,
            r#type = %incoming.kind,
            attempt = delivery.attempt,
            correlation_id = incoming.correlation_id.as_deref(),
        );
        if let Some(traceparent) = &incoming.traceparent {
            trace::continue_from(&span, traceparent);
        }
        let context = Context {
            id: incoming.id,
            kind: incoming.kind.into_owned(),
            source: incoming.source.into_owned(),
            subject: incoming.subject,
            time: incoming.time,
            correlation_id: incoming.correlation_id,
            queue: self.queue.name,
            attempt: delivery.attempt,
            max_attempts: self.policy.max_attempts,
            deadline: self.policy.deadline,
            shutdown: self.shutdown.clone(),
        };
        self.call(handler.as_ref(), incoming.data.get(), &context, delivery).instrument(span).await
    }

    async fn call(
        &self,
        handler: &dyn AnyHandler,
        data: &str,
        context: &Context,
        delivery: &Delivery<Token>,
    ) -> Verdict {
        let started = Instant::now();
        // A panic in the handler is an outcome like others. What it left half done is the handler's own
        // transaction, which is rolled back with it.
        let call = AssertUnwindSafe(async { handler.call(data, context).await }).catch_unwind();
        let outcome = tokio::time::timeout(self.policy.deadline, call).await;
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
        match outcome {
            Ok(Ok(Ok(()))) => {
                self.succeeded();
                Verdict::Done
            }
            Ok(Ok(Err(Fault::Undecodable(error)))) => {
                self.dead(delivery, "undecodable", format!("no {}: {error}", context.kind))
            }
            Ok(Ok(Err(Fault::Job(JobError::Release)))) => Verdict::Release,
            Ok(Ok(Err(Fault::Job(JobError::Fail(error))))) => {
                self.failed();
                self.dead(delivery, "failed", format!("{error:#}"))
            }
            Ok(Ok(Err(Fault::Job(JobError::Retry(error))))) => self.retry(delivery, format!("{error:#}")),
            Ok(Err(panic)) => self.retry(delivery, format!("the handler panicked: {}", said(panic.as_ref()))),
            Err(_) => {
                let seconds = self.policy.deadline.as_secs_f64();
                self.retry(delivery, format!("the handler exceeded its deadline of {seconds} s"))
            }
        }
    }

    fn succeeded(&self) {
        if self.kill_switch.succeeded() {
            self.metrics.kill_switch.set(0);
            tracing::info!(queue = self.queue.name, "the kill switch closed: a message succeeded");
        }
    }

    fn failed(&self) {
        if self.kill_switch.failed() {
            self.metrics.kill_switch.set(1);
            tracing::error!(
                queue = self.queue.name,
                failures = self.policy.kill_switch_after,
                pause_s = self.policy.kill_switch_pause.as_secs_f64(),
                "the kill switch opened: handlers fail wholesale, the queue pauses"
            );
        }
    }

    fn retry(&self, delivery: &Delivery<Token>, error: String) -> Verdict {
        self.failed();
        if delivery.attempt >= self.policy.max_attempts {
            return self.dead(delivery, "attempts", error);
        }
        let pause = self.policy.backoff.after(delivery.attempt);
        tracing::warn!(queue = self.queue.name, attempt = delivery.attempt, %error,
            pause_ms = pause.as_millis() as u64, "a message failed and will be tried again");
        Verdict::Retry { failure: failure(delivery, "retry", error), pause }
    }

    fn dead(&self, delivery: &Delivery<Token>, reason: &'static str, error: String) -> Verdict {
        tracing::error!(queue = self.queue.name, attempt = delivery.attempt, reason, %error,
            "a message goes to the dead letters");
        Verdict::Dead(failure(delivery, reason, error))
    }

    /// Tells the broker what becomes of the message, for as long as the policy allows. Then the message is given
    /// up: it holds a place that others need.
    async fn settle(&self, delivery: &Delivery<Token>, verdict: &Verdict) {
        let until = Instant::now() + self.policy.settle_within;
        let mut pauses = Pauses::new();
        loop {
            let attempt = timeout_at(until, delivery.token.settle(verdict, &delivery.body)).await;
            let error = match attempt {
                Ok(Ok(())) => break,
                Ok(Err(error @ SettleError::Lost(_))) => {
                    tracing::warn!(queue = self.queue.name, %error,
                        "a message could not be settled and will be delivered again");
                    return;
                }
                Ok(Err(SettleError::Unavailable(error))) => error,
                Err(_) => "the broker does not answer".into(),
            };
            if self.shutdown.is_cancelled() {
                // Unsettled, it comes back when we leave.
                tracing::warn!(queue = self.queue.name, error, "leaving with an unsettled message");
                return;
            }
            let pause = pauses.next();
            if Instant::now() + pause >= until {
                return self.give_up(delivery, verdict, &error);
            }
            tracing::warn!(
                queue = self.queue.name,
                error,
                pause_ms = pause.as_millis() as u64,
                "a message can't be settled yet"
            );
            tokio::time::sleep(pause).await;
        }
        match verdict {
            Verdict::Done => self.metrics.succeeded.inc(),
            Verdict::Retry { .. } => self.metrics.retried.inc(),
            Verdict::Dead(failure) => self.metrics.dead(failure.reason),
            Verdict::Release => self.metrics.released.inc(),
        }
    }

    fn give_up(&self, delivery: &Delivery<Token>, verdict: &Verdict, error: &str) {
        let outcome = match verdict {
            Verdict::Done => "done",
            Verdict::Retry { .. } => "retry",
            Verdict::Dead(_) => "dead letter",
            Verdict::Release => "release",
        };
        // At least as long as it held its place: where few places are, others get half of the time.
        let pause = self.policy.backoff.after(delivery.attempt).max(self.policy.settle_within);
        self.metrics.given_up.inc();
        tracing::error!(
            queue = self.queue.name,
            attempt = delivery.attempt,
            outcome,
            error,
            tried_s = self.policy.settle_within.as_secs_f64(),
            "the broker does not take what became of a message: it goes back to its queue and will be worked on again"
        );
        delivery.token.give_up(pause);
    }
}

/// Keeps a delivery ours while `work` goes on.
async fn keeping(delivery: &Delivery<Token>, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = work => {}
        never = delivery.token.keep() => match never {},
    }
}

fn failure(delivery: &Delivery<Token>, reason: &'static str, error: String) -> Failure {
    let now = Utc::now();
    Failure {
        reason,
        error,
        attempts: delivery.attempt,
        first_failed_at: delivery.first_failed_at.unwrap_or(now),
        failed_at: now,
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use contracts::Transport;

    use super::*;
    use crate::memory::Memory;

    static QUEUE: Queue = Queue { name: "test.dispatch", transport: Transport::Memory, events: &[] };

    /// What a paused consumer gives back holds up the loop that would stop the source: it can't wait for that stop.
    #[tokio::test]
    async fn what_was_not_begun_is_given_back_in_the_middle_of_a_shutdown() {
        let memory = Memory::default();
        memory.publish(QUEUE.name, "{}".into());
        let dispatch = Dispatch {
            queue: &QUEUE,
            policy: Policy::default(),
            handlers: HashMap::new(),
            metrics: std::sync::Arc::new(QueueMetrics::of(QUEUE.name)),
            kill_switch: KillSwitch::new(1),
            shutdown: CancellationToken::new(),
            stopped: CancellationToken::new(),
            allowance: 0,
        };
        dispatch.shutdown.cancel();
        let mut source = memory.open(QUEUE.name);
        let delivery = source.receive().await.map(crate::transport::Token::Memory);
        let released = tokio::time::timeout(Duration::from_secs(5), dispatch.release(delivery)).await;
        assert!(released.is_ok(), "it waits for a stop that waits for it");
        assert_eq!(memory.depth(QUEUE.name).ready, 1);
    }
}
