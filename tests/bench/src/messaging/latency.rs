use super::{Bench, CONCURRENCY, Tick, WORK, bare, publish};
use crate::figure::{Figure, percentile};
use anyhow::Result;
use async_trait::async_trait;
use messaging::{Broker, Consumer, Context, Envelope, Handler, JobError, Outgoing, Policy};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Messages, one at a time.
const COUNT: usize = 2_000;
/// The pause between two: the broker is idle.
const PAUSE: Duration = Duration::from_millis(5);

struct Stopwatch {
    origin: Instant,
    milliseconds: Arc<Mutex<Vec<f64>>>,
}

#[async_trait]
impl Handler<Tick> for Stopwatch {
    async fn handle(&self, tick: Tick, _: &Context) -> Result<(), JobError> {
        let took = since(self.origin, tick.sent);
        self.milliseconds.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        Ok(())
    }
}

fn since(origin: Instant, sent: u64) -> f64 {
    (origin.elapsed().saturating_sub(Duration::from_nanos(sent))).as_secs_f64() * 1_000.0
}

async fn tick(broker: &Broker, origin: Instant) -> Result<()> {
    let sent = u64::try_from(origin.elapsed().as_nanos())?;
    let envelope = Envelope::new("bench", &Tick { sent })?;
    publish(broker, &[Outgoing::new::<Tick>(&envelope)?]).await
}

/// `latency`: from publish to handler; the floor is a bare consumer of messages published the same way.
pub async fn measure(bench: &Bench) -> Result<()> {
    let broker = bench.broker()?;
    broker.declare(&[&WORK]).await?;
    bench.empty().await?;
    let origin = Instant::now();

    let mut bare = bare::Bare::start(bench).await?;
    let mut floor = Vec::with_capacity(COUNT);
    let mut pace = tokio::time::interval(PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..COUNT {
        pace.tick().await;
        let (sent, body) = tokio::join!(tick(&broker, origin), bare.take());
        sent?;
        let envelope: Envelope = serde_json::from_slice(&body?)?;
        floor.push(since(origin, serde_json::from_value::<Tick>(envelope.data)?.sent));
    }
    bare.leave().await?;

    let milliseconds = Arc::new(Mutex::new(Vec::with_capacity(COUNT)));
    let handler = Stopwatch { origin, milliseconds: milliseconds.clone() };
    let shutdown = CancellationToken::new();
    let policy = Policy { concurrency: CONCURRENCY, ..Policy::default() };
    let consumer = Consumer::new(&bench.broker()?, &WORK).policy(policy).handle::<Tick>(handler);
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    // The first message waits for the consumer to be connected: it is no part of the figure.
    tick(&broker, origin).await?;
    stack::wait::until("the consumer should run", Duration::from_secs(30), async || seen(&milliseconds) == 1)
        .await?;
    for _ in 0..COUNT {
        pace.tick().await;
        tick(&broker, origin).await?;
    }
    stack::wait::until("all messages should arrive", Duration::from_secs(30), async || {
        seen(&milliseconds) == COUNT + 1
    })
    .await?;
    shutdown.cancel();
    running.await?;
    let all = milliseconds.lock().unwrap_or_else(PoisonError::into_inner)[1..].to_vec();
    Figure::new("messaging", "latency", percentile(all.clone(), 99.0), "ms p99")
        .floor_of_time(percentile(floor.clone(), 99.0))
        .n(COUNT)
        .number("p50", percentile(all, 50.0))
        .number("floor_p50", percentile(floor, 50.0))
        .print();
    Ok(())
}

fn seen(milliseconds: &Mutex<Vec<f64>>) -> usize {
    milliseconds.lock().unwrap_or_else(PoisonError::into_inner).len()
}
