use super::rabbit_rate::Meter;
use super::{Bench, Tock, WORK_ON_SQS, outgoing, publish};
use crate::figure::Figure;
use anyhow::Result;
use async_trait::async_trait;
use messaging::metrics::sqs_calls;
use messaging::{Consumer, Context, Handler, JobError, Policy};
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const COUNT: usize = 2_000;
/// What consuming a message may take; all but `send`.
const CONSUMING: [&str; 5] = ["receive", "delete", "postpone", "keep", "bury"];

struct Count(Arc<Meter>);

#[async_trait]
impl Handler<Tock> for Count {
    async fn handle(&self, _: Tock, _: &Context) -> Result<(), JobError> {
        self.0.count();
        Ok(())
    }
}

/// `sqs_calls`: API calls that consuming a message takes, where the queue is full.
pub async fn measure(bench: &Bench) -> Result<()> {
    let broker = bench.broker()?;
    broker.declare(&[&WORK_ON_SQS]).await?;
    let messages = outgoing(COUNT, |number| Tock { number: number as u64 })?;
    publish(&broker, &messages).await?;
    let sent = sqs_calls(WORK_ON_SQS.name, "send");

    let meter = Meter::new(COUNT);
    let shutdown = CancellationToken::new();
    let policy = Policy { concurrency: 100, ..Policy::default() };
    let consumer = Consumer::new(&broker, &WORK_ON_SQS).policy(policy).handle::<Tock>(Count(meter.clone()));
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    meter.done().await;
    shutdown.cancel();
    // Drained: the last deletions are made and counted.
    running.await?;
    let consumed: u64 = CONSUMING.iter().map(|operation| sqs_calls(WORK_ON_SQS.name, operation)).sum();
    let left = broker.depth(&WORK_ON_SQS).await?;
    anyhow::ensure!(left.ready + left.in_flight == 0, "not all messages were deleted: {left:?}");
    Figure::new("messaging", "sqs_calls", consumed as f64 / COUNT as f64, "calls/message")
        .n(COUNT)
        .with("receive", json!(sqs_calls(WORK_ON_SQS.name, "receive")))
        .with("delete", json!(sqs_calls(WORK_ON_SQS.name, "delete")))
        .with("to_publish", json!(sent as f64 / COUNT as f64))
        .print();
    Ok(())
}
