use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Result, anyhow};
use contracts::Transport;
use messaging::PublishError;
use tokio::sync::Semaphore;

use crate::{contract, harness::*};

contract!(a_message_is_acked_after_its_effect_and_comes_again_if_its_consumer_dies: Amqp, Sqs);
async fn a_message_is_acked_after_its_effect_and_comes_again_if_its_consumer_dies(
    transport: Transport,
) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (proxy, flaky) = rig.behind_proxy().await?;
    let (tell, mut reports) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let first = consume(&flaky, quick(), {
        let (tell, gate) = (tell.clone(), gate.clone());
        move |_, context| {
            let _ = tell.send(("first", context.attempt));
            let gate = gate.clone();
            async move { gate.acquire().await.map(|permit| permit.forget()).map_err(JobErr::fail) }
        }
    });
    rig.send("twice").await?;
    assert_eq!(reports.next().await?, ("first", 1));
    let second = rig.consume(quick(), move |_, context| {
        let _ = tell.send(("second", context.attempt));
        async { Ok(()) }
    });
    // The first is still at work on it: nobody else has it.
    tokio::time::sleep(VISIBILITY + VISIBILITY / 2).await;
    assert!(reports.rest().is_empty());
    proxy.cut().await;
    assert_eq!(reports.next().await?, ("second", 2), "the lost delivery counts");
    rig.empty().await?;
    gate.add_permits(1);
    proxy.heal().await;
    first.stop().await?;
    second.stop().await?;
    assert!(reports.rest().is_empty());
    Ok(())
}

type JobErr = messaging::JobError;

contract!(publishers_and_consumers_outlive_an_outage: Amqp, Sqs);
async fn publishers_and_consumers_outlive_an_outage(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (proxy, flaky) = rig.behind_proxy().await?;
    let (tell, mut reports) = reports();
    let consumer = consume(&flaky, quick(), move |task, _| {
        let _ = tell.send(task);
        async { Ok(()) }
    });
    flaky.publish(&[command("before")?]).await.remove(0)?;
    assert_eq!(reports.next().await?, "before");

    for round in 0..3 {
        proxy.cut().await;
        // The rest of the world goes on.
        rig.send(&format!("meanwhile {round}")).await?;
        let message = command(&format!("after {round}"))?;
        let failed = within(flaky.publish(std::slice::from_ref(&message))).await?.remove(0);
        assert!(matches!(failed, Err(PublishError::Unavailable(_))), "{failed:?}");
        assert!(flaky.ping().await.iter().any(|(t, answer)| *t == transport && answer.is_err()));
        proxy.heal().await;
        insist(&flaky, &message).await?;
        // An ack may have been lost with the connection: what was delivered before can come again.
        let mut missing = BTreeSet::from([format!("after {round}"), format!("meanwhile {round}")]);
        while !missing.is_empty() {
            missing.remove(&reports.next().await?);
        }
    }
    assert!(flaky.ping().await.iter().all(|(_, answer)| answer.is_ok()));
    rig.empty().await?;
    consumer.stop().await
}

contract!(a_stalled_network_fails_a_publish_in_time: Amqp, Sqs);
async fn a_stalled_network_fails_a_publish_in_time(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (proxy, flaky) = rig.behind_proxy().await?;
    flaky.publish(&[command("before")?]).await.remove(0)?;
    proxy.stall().await;
    let message = command("stalled")?;
    let failed = within(flaky.publish(std::slice::from_ref(&message))).await?.remove(0);
    assert!(matches!(failed, Err(PublishError::Unavailable(_))), "{failed:?}");
    proxy.heal().await;
    insist(&flaky, &message).await
}

contract!(a_consumer_starts_before_its_broker_and_leaves_without_it: Amqp, Sqs);
async fn a_consumer_starts_before_its_broker_and_leaves_without_it(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (proxy, flaky) = rig.behind_proxy().await?;
    proxy.cut().await;
    let (tell, mut reports) = reports();
    let consumer = consume(&flaky, quick(), move |task, _| {
        let _ = tell.send(task);
        async { Err(JobErr::retry(anyhow!("not while the broker is away"))) }
    });
    rig.send("early").await?;
    proxy.heal().await;
    assert_eq!(reports.next().await?, "early");
    proxy.cut().await;
    consumer.stop().await
}
