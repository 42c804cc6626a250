//! What an operator sees: traces and metrics.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use contracts::{Queue, Transport, catalog::v1::ProcessImport};
use messaging::{Broker, Consumer, DepthSampler, Destination, Envelope, JobError, Policy};
use opentelemetry::trace::TraceContextExt as _;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::harness::*;

static MEASURED: Queue = Queue { name: "test.measured", transport: Transport::Amqp, events: &[] };

#[tokio::test]
async fn a_trace_goes_on_across_the_hop() -> Result<()> {
    for transport in [Transport::Amqp, Transport::Sqs, Transport::Memory] {
        let rig = Rig::new(transport).await?;
        collect_traces();
        let (tell, mut reports) = reports();
        let consumer = rig.consume(quick(), move |_, _| {
            let context = tracing::Span::current().context();
            let span = context.span().span_context().clone();
            let _ = tell.send((span.trace_id(), span.span_id()));
            async { Ok(()) }
        });
        let sender = tracing::info_span!("request");
        let sent = sender.context().span().span_context().clone();
        assert!(sent.is_valid());
        let publish = async {
            let envelope = Envelope::new("test", &ProcessImport::default())?.traced();
            assert!(envelope.traceparent.is_some());
            anyhow::Ok(rig.broker.publish(&[outgoing(&envelope)?]).await.remove(0)?)
        };
        publish.instrument(sender.clone()).await?;
        let (trace, span) = reports.next().await?;
        assert_eq!(trace, sent.trace_id(), "{transport:?}");
        assert_ne!(span, sent.span_id(), "a span of its own");
        consumer.stop().await?;
    }
    Ok(())
}

#[test]
fn without_a_trace_there_is_no_header() -> Result<()> {
    assert_eq!(Envelope::new("test", &ProcessImport::default())?.traced().traceparent, None);
    Ok(())
}

fn metric(name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let families = prometheus::gather();
    let family = families.iter().find(|family| family.name() == name)?;
    let wanted = |metric: &&prometheus::proto::Metric| {
        labels.iter().all(|(name, value)| {
            metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
        })
    };
    let metric = family.get_metric().iter().find(wanted)?;
    Some(match family.get_field_type() {
        prometheus::proto::MetricType::COUNTER => metric.get_counter().get_value(),
        prometheus::proto::MetricType::GAUGE => metric.get_gauge().get_value(),
        prometheus::proto::MetricType::HISTOGRAM => metric.get_histogram().get_sample_count() as f64,
        _ => return None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_measured() -> Result<()> {
    let rig = Rig::bare(Transport::Amqp).await?;
    rig.broker.declare(&[&MEASURED]).await?;
    let send = async |task: &str| -> Result<()> {
        let mut message = command(task)?;
        message.destination = Destination::Queue(MEASURED.name.into());
        Ok(rig.broker.publish(&[message]).await.remove(0)?)
    };
    let of = |name: &str| metric(name, &[("queue", MEASURED.name)]);
    let (tell, mut reports) = reports();
    let policy = Policy {
        concurrency: 1,
        kill_switch_after: 3,
        kill_switch_pause: Duration::from_secs(3600),
        ..quick()
    };
    let consumer = consume_from(&rig.broker, &MEASURED, policy, move |task, context| {
        let _ = tell.send(task.clone());
        async move {
            match (task.as_str(), context.attempt) {
                ("good", _) | ("later", 2) => Ok(()),
                ("later", _) => Err(JobError::retry(anyhow!("later"))),
                ("held", _) => {
                    context.shutdown.cancelled().await;
                    Err(JobError::Release)
                }
                _ => Err(JobError::fail(anyhow!("never"))),
            }
        }
    });
    for task in ["good", "later", "bad"] {
        send(task).await?;
    }
    let depth = rig.broker.depth(&MEASURED).await?;
    assert!(depth.ready <= 3);
    reports.take(4).await?;
    let dead = || metric("lote_messages_dead_total", &[("queue", MEASURED.name), ("reason", "failed")]);
    until("all are counted", async || {
        Ok(of("lote_messages_succeeded_total") == Some(2.0) && dead() == Some(1.0))
    })
    .await?;
    assert_eq!(of("lote_messages_delivered_total"), Some(4.0));
    assert_eq!(of("lote_messages_retried_total"), Some(1.0));
    assert_eq!(of("lote_handler_seconds"), Some(4.0));
    assert_eq!(of("lote_messages_in_flight"), Some(0.0));
    assert_eq!(of("lote_kill_switch_open"), Some(0.0));

    send("held").await?;
    assert_eq!(reports.next().await?, "held");
    assert_eq!(of("lote_messages_in_flight"), Some(1.0));
    send("waits").await?;
    until("a message waits", async || {
        let depth = rig.broker.depth(&MEASURED).await?;
        // The prefetch is 1, so the second stays in the broker.
        Ok((depth.ready, depth.in_flight, depth.dead) == (1, 1, 1))
    })
    .await?;
    let age = rig.broker.depth(&MEASURED).await?.oldest_age.context("an age")?;
    assert!(age < PATIENCE, "{age:?}");
    consumer.stop().await?;
    assert_eq!(of("lote_messages_released_total"), Some(1.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_kill_switch_is_seen() -> Result<()> {
    static KILLED: Queue = Queue { name: "test.killed", transport: Transport::Amqp, events: &[] };
    let rig = Rig::bare(Transport::Amqp).await?;
    rig.broker.declare(&[&KILLED]).await?;
    let policy = Policy { kill_switch_after: 1, kill_switch_pause: Duration::from_secs(3600), ..quick() };
    let consumer =
        consume_from(&rig.broker, &KILLED, policy, |_, _| async { Err(JobError::fail(anyhow!("never"))) });
    let mut message = command("bad")?;
    message.destination = Destination::Queue(KILLED.name.into());
    rig.broker.publish(&[message]).await.remove(0)?;
    let labels = [("queue", KILLED.name)];
    until("the switch is open", async || Ok(metric("lote_kill_switch_open", &labels) == Some(1.0))).await?;
    until("the depth is looked at", async || {
        Ok(metric("lote_queue_depth", &[("queue", KILLED.name), ("state", "dead")]).is_some())
    })
    .await?;
    // A pause of an hour does not hold up a shutdown.
    consumer.stop().await
}

fn ready(queue: &Queue) -> Option<f64> {
    metric("lote_queue_depth", &[("queue", queue.name), ("state", "ready")])
}

async fn send_to(broker: &Broker, queue: &Queue) -> Result<()> {
    let mut message = command("waits")?;
    message.destination = Destination::from(queue);
    Ok(broker.publish(&[message]).await.remove(0)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_is_up_while_it_is_connected() -> Result<()> {
    static CONNECTED: Queue = Queue { name: "test.connected", transport: Transport::Amqp, events: &[] };
    let rig = Rig::bare(Transport::Amqp).await?;
    rig.broker.declare(&[&CONNECTED]).await?;
    let up = || metric("lote_consumer_up", &[("queue", CONNECTED.name)]);
    assert_eq!(up(), None, "a process without a consumer says nothing");
    let consumer = consume_from(&rig.broker, &CONNECTED, quick(), |_, _| async { Ok(()) });
    until("it is up", async || Ok(up() == Some(1.0))).await?;
    consumer.stop().await?;
    assert_eq!(up(), Some(0.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_nobody_consumes_is_measured_and_one_that_is_consumed_is_left_to_its_consumer()
-> Result<()> {
    static LEFT: Queue = Queue { name: "test.left", transport: Transport::Amqp, events: &[] };
    static TAKEN: Queue = Queue { name: "test.taken", transport: Transport::Amqp, events: &[] };
    let rig = Rig::bare(Transport::Amqp).await?;
    rig.broker.declare(&[&LEFT, &TAKEN]).await?;
    let started = std::time::Instant::now();
    let policy = Policy { concurrency: 1, ..quick() };
    let consumer = consume_from(&rig.broker, &TAKEN, policy, |_, context| async move {
        context.shutdown.cancelled().await;
        Err(JobError::Release)
    });
    until("its consumer has looked", async || Ok(ready(&TAKEN) == Some(0.0))).await?;
    for queue in [&TAKEN, &TAKEN, &TAKEN, &LEFT, &LEFT] {
        send_to(&rig.broker, queue).await?;
    }
    let stop = CancellationToken::new();
    let sampler = DepthSampler::new(rig.broker.clone(), &[&TAKEN, &LEFT]);
    let sampling = tokio::spawn(sampler.run(stop.clone()));
    until("it is measured", async || Ok(ready(&LEFT) == Some(2.0))).await?;
    // Its consumer looks every 15 s: on a machine that took so long, nothing is learnt.
    if started.elapsed() < Duration::from_secs(14) {
        assert_eq!(ready(&TAKEN), Some(0.0), "somebody else looked, and found two");
    }
    stop.cancel();
    sampling.await?;
    consumer.stop().await
}

#[tokio::test]
async fn where_jobs_are_told_of_the_age_is_theirs() -> Result<()> {
    static JOBS: Queue = Queue { name: "test.jobs", transport: Transport::Memory, events: &[] };
    let broker = Broker::memory();
    // Makes the queue known.
    let _consumer = Consumer::new(&broker, &JOBS);
    send_to(&broker, &JOBS).await?;
    assert_eq!(broker.depth(&JOBS).await?.oldest_age, None, "no broker tells");
    let hour = Duration::from_secs(3_600);
    broker.jobs_wait(&JOBS, Some(chrono::Utc::now() - hour));
    let shown = || metric("lote_queue_oldest_age_seconds", &[("queue", JOBS.name)]);
    assert!(shown().is_some_and(|age| (3_600.0..3_700.0).contains(&age)), "{:?}", shown());
    assert!(broker.depth(&JOBS).await?.oldest_age >= Some(hour));
    broker.jobs_wait(&JOBS, None);
    assert_eq!(shown(), Some(0.0), "what is in the queue are nudges of jobs that somebody has");
    Ok(())
}
