//! What only SQS can do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::{Client, types::QueueAttributeName};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use contracts::{Queue, Transport};
use messaging::{Broker, Destination, JobError, Policy, PublishError};
use tokio::sync::Semaphore;

use crate::harness::*;

pub async fn client(rig: &Rig) -> Result<(Client, String)> {
    let endpoint = rig.config.sqs.as_ref().and_then(|sqs| sqs.endpoint.clone()).context("an endpoint")?;
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .http_client(http)
        .endpoint_url(&endpoint)
        .load()
        .await;
    let name = format!("{}{}", rig.config.prefix, WORK.name).replace('.', "-");
    Ok((Client::new(&config), format!("{endpoint}/000000000000/{name}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_job_keeps_its_message_invisible() -> Result<()> {
    let rig = Rig::new(Transport::Sqs).await?;
    let (tell, mut reports) = reports();
    let work = move |who: &'static str| {
        let tell = tell.clone();
        move |_: String, context: messaging::Context| {
            let tell = tell.clone();
            let _ = tell.send((who, "started", context.attempt));
            async move {
                tokio::time::sleep(VISIBILITY * 3).await;
                let _ = tell.send((who, "finished", context.attempt));
                Ok(())
            }
        }
    };
    let first = rig.consume(quick(), work("first"));
    rig.send("long").await?;
    assert_eq!(reports.next().await?, ("first", "started", 1));
    let second = rig.consume(quick(), work("second"));
    assert_eq!(reports.next().await?, ("first", "finished", 1), "nobody else got it in the meantime");
    rig.empty().await?;
    first.stop().await?;
    second.stop().await?;
    assert!(reports.rest().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_made_with_their_redrive_and_made_again_after_a_wipe() -> Result<()> {
    let rig = Rig::new(Transport::Sqs).await?;
    let (client, url) = client(&rig).await?;
    let attributes = client
        .get_queue_attributes()
        .queue_url(&url)
        .attribute_names(QueueAttributeName::All)
        .send()
        .await?
        .attributes
        .context("attributes")?;
    let of = |name| attributes.get(&name).map(String::as_str);
    assert_eq!(of(QueueAttributeName::VisibilityTimeout), Some("2"));
    assert_eq!(of(QueueAttributeName::MessageRetentionPeriod), Some("86400"));
    assert_eq!(of(QueueAttributeName::MaximumMessageSize), Some("1048576"));
    let redrive: serde_json::Value =
        serde_json::from_str(of(QueueAttributeName::RedrivePolicy).context("a redrive policy")?)?;
    assert_eq!(redrive["maxReceiveCount"], 50);
    assert!(redrive["deadLetterTargetArn"].as_str().is_some_and(|arn| arn.ends_with("-dlq")));

    let (tell, mut reports) = reports();
    let consumer = rig.consume(quick(), move |task, _| {
        let _ = tell.send(task);
        async { Ok(()) }
    });
    rig.send("before").await?;
    assert_eq!(reports.next().await?, "before");
    for queue in [url.clone(), format!("{url}-dlq")] {
        client.delete_queue().queue_url(queue).send().await?;
    }
    let message = command("after")?;
    insist(&rig.broker, &message).await?;
    assert_eq!(reports.next().await?, "after");
    consumer.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sqs_moved_itself_is_a_letter_too() -> Result<()> {
    let rig = Rig::new(Transport::Sqs).await?;
    let id = rig.send("poison").await?;
    let (client, url) = client(&rig).await?;
    for received in 0..=50 {
        let answer = client
            .receive_message()
            .queue_url(&url)
            .visibility_timeout(0)
            .wait_time_seconds(0)
            .send()
            .await?;
        assert_eq!(answer.messages().is_empty(), received == 50, "receive {received}");
    }
    let letter = rig.letter().await?;
    assert_eq!((letter.reason.as_str(), letter.id, letter.attempts), ("receive_count", Some(id), 50));
    let failed = letter.failed_at;
    drop(letter);
    assert!((chrono::Utc::now() - failed).num_seconds() < 60);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_sent_is_refused_and_the_rest_goes() -> Result<()> {
    let rig = Rig::new(Transport::Sqs).await?;
    let messages = [command("one")?, raw(vec![b'x'; 1024 * 1024]), raw(vec![0xff, 0xfe]), command("two")?];
    let results = rig.broker.publish(&messages).await;
    assert!(results[0].is_ok() && results[3].is_ok(), "{results:?}");
    for refused in &results[1..3] {
        assert!(matches!(refused, Err(PublishError::Refused { .. })), "{refused:?}");
    }
    assert_eq!(rig.broker.depth(&WORK).await?.ready, 2);
    Ok(())
}

/// A consumer with free hands gets full batches, and settles in full batches: a tenth of a call for the
/// receive, a tenth for the delete. Only a last, partly filled batch of each may come on top.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_batches_take_few_calls() -> Result<()> {
    static COUNTED: Queue = Queue { name: "test.counted", transport: Transport::Sqs, events: &[] };
    const MESSAGES: usize = 200;
    let rig = Rig::bare(Transport::Sqs).await?;
    rig.broker.declare(&[&COUNTED]).await?;
    let mut messages = (0..MESSAGES).map(|n| command(&n.to_string())).collect::<Result<Vec<_>>>()?;
    for message in &mut messages {
        message.destination = Destination::Queue(COUNTED.name.into());
    }
    for result in rig.broker.publish(&messages).await {
        result?;
    }
    let calls = |operation| messaging::metrics::sqs_calls(COUNTED.name, operation);
    assert_eq!(calls("send"), MESSAGES as u64 / 10);
    let (tell, mut reports) = reports();
    let policy = Policy { concurrency: 20, ..quick() };
    let consumer = consume_from(&rig.broker, &COUNTED, policy, move |_, _| {
        let _ = tell.send(());
        async { Ok(()) }
    });
    reports.take(MESSAGES).await?;
    consumer.stop().await?;
    assert!(reports.rest().is_empty());
    let made = calls("receive") + calls("delete");
    assert!(made as f64 <= 0.25 * MESSAGES as f64, "{made} calls for {MESSAGES} messages");
    let depth = rig.broker.depth(&COUNTED).await?;
    assert_eq!((depth.ready, depth.in_flight), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_missing_queue_is_no_queue_where_it_is_not_ours_to_make() -> Result<()> {
    let rig = Rig::bare(Transport::Sqs).await?;
    let mut config = rig.config.clone();
    if let Some(sqs) = &mut config.sqs {
        sqs.create = false;
    }
    let broker = Broker::new(config)?;
    let error = broker.declare(&[&WORK]).await.err().context("an error")?;
    assert!(error.to_string().contains("does not exist"), "{error:#}");
    assert!(tokio::time::timeout(Duration::from_secs(5), broker.depth(&WORK)).await?.is_err());
    Ok(())
}

/// The outbox deletes what was confirmed and sends the rest again: neither may wait for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_publish_of_many_ends_in_time_with_a_result_each() -> Result<()> {
    const MESSAGES: usize = 500;
    let rig = Rig::new(Transport::Sqs).await?;
    let (proxy, slow) = rig.behind_proxy().await?;
    // A batch of ten takes some four seconds of a connection, all of them half a minute.
    let messages: Vec<_> = (0..MESSAGES).map(|n| raw(format!("{n:02000}"))).collect();
    proxy.slow(5_000).await;
    let began = Instant::now();
    let results = slow.publish(&messages).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(PublishError::Unavailable(_)))));
    let confirmed = results.iter().filter(|result| result.is_ok()).count();
    assert!((10..MESSAGES).contains(&confirmed), "{confirmed} confirmed");
    proxy.heal().await;
    // Nobody sends the rest afterwards: only what was under way may have arrived unconfirmed, ten on each of eight
    // connections, in the two attempts of the SDK.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let arrived = rig.broker.depth(&WORK).await?.ready as usize;
    assert!((confirmed..=confirmed + 160).contains(&arrived), "{confirmed} confirmed, {arrived} arrived");
    Ok(())
}

/// A consumer that has lost its broker polls from a new place; what its handlers settle at the old one counts too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_writes_out_what_was_received_before_an_outage() -> Result<()> {
    let rig = Rig::new(Transport::Sqs).await?;
    let (proxy, flaky) = rig.behind_proxy().await?;
    let (tell, mut reports) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let consumer = consume(&flaky, quick(), {
        let gate = gate.clone();
        move |task, _| {
            let _ = tell.send(task.clone());
            let gate = gate.clone();
            async move {
                if task == "long" {
                    gate.acquire().await.map_err(JobError::fail)?.forget();
                }
                Ok(())
            }
        }
    });
    rig.send("long").await?;
    assert_eq!(reports.next().await?, "long");
    // The next receive is under way by then, and breaks.
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.cut().await;
    proxy.heal().await;
    rig.send("short").await?;
    assert_eq!(reports.next().await?, "short");
    until("the short one is gone", async || Ok(rig.broker.depth(&WORK).await?.in_flight == 1)).await?;
    // The consumer stops polling, then the handler ends while nothing passes.
    consumer.shutdown.cancel();
    tokio::time::sleep(Duration::from_secs(2)).await;
    proxy.stall().await;
    gate.add_permits(1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!consumer.task.is_finished(), "it waits for the deletion");
    proxy.heal().await;
    consumer.stop().await?;
    let depth = rig.broker.depth(&WORK).await?;
    assert_eq!((depth.ready, depth.in_flight), (0, 0), "the long one is deleted when the consumer has left");
    Ok(())
}
