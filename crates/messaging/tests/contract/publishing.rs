use anyhow::Result;
use contracts::{Queue, Transport};
use messaging::{Broker, BrokerConfig, Destination, PublishError};

use crate::{contract, harness::*};

static EVENTS: Queue =
    Queue { name: "test.events", transport: Transport::Amqp, events: &["test.happened.v1", "test.ended.v1"] };
static OTHERS: Queue = Queue { name: "test.others", transport: Transport::Amqp, events: &["test.ended.v1"] };

contract!(a_command_without_its_queue_is_unroutable: Amqp, Sqs);
async fn a_command_without_its_queue_is_unroutable(transport: Transport) -> Result<()> {
    let rig = Rig::bare(transport).await?;
    let mut config = rig.config.clone();
    if let Some(sqs) = &mut config.sqs {
        sqs.create = false;
    }
    let strict = Broker::new(config)?;
    let mut message = command("lost")?;
    message.destination = Destination::Queue("nobody.knows".into());
    let failed = strict.publish(&[message]).await.remove(0);
    assert!(matches!(failed, Err(PublishError::Unroutable(_))), "{failed:?}");

    // A queue that is known and was never made.
    drop(messaging::Consumer::new(&strict, &WORK));
    let failed = strict.publish(&[command("lost")?, command("lost too")?]).await;
    for failed in failed {
        assert!(matches!(failed, Err(PublishError::Unroutable(_))), "{failed:?}");
    }
    // Somebody makes it.
    rig.broker.declare(&[&WORK]).await?;
    insist(&strict, &command("found")?).await?;
    until("it is there", async || Ok(rig.broker.depth(&WORK).await?.ready == 1)).await
}

contract!(an_event_reaches_every_subscriber: Amqp, Memory);
async fn an_event_reaches_every_subscriber(transport: Transport) -> Result<()> {
    let rig = Rig::bare(transport).await?;
    rig.broker.declare(&[&EVENTS, &OTHERS]).await?;
    let event = |key: &str| -> Result<_> {
        let mut message = command(key)?;
        message.destination = Destination::Event(key.into());
        Ok(message)
    };
    // Published before any consumer has started: their queues keep it.
    let sent = [event("test.happened.v1")?, event("test.ended.v1")?, event("test.nobody.v1")?];
    for result in rig.broker.publish(&sent).await {
        result?;
    }
    let (tell, mut reports) = reports();
    let other = tell.clone();
    let first = consume_from(&rig.broker, &EVENTS, quick(), move |task, _| {
        let _ = tell.send(("events", task));
        async { Ok(()) }
    });
    let second = consume_from(&rig.broker, &OTHERS, quick(), move |task, _| {
        let _ = other.send(("others", task));
        async { Ok(()) }
    });
    let mut got = reports.take(3).await?;
    got.sort();
    let expected = [("events", "test.ended.v1"), ("events", "test.happened.v1"), ("others", "test.ended.v1")];
    assert_eq!(got, expected.map(|(queue, task)| (queue, task.to_owned())));
    first.stop().await?;
    second.stop().await?;
    assert!(reports.rest().is_empty());
    Ok(())
}

contract!(an_event_whose_subscriber_has_no_queue_is_unroutable: Amqp);
async fn an_event_whose_subscriber_has_no_queue_is_unroutable(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let mut message = command("event")?;
    // The contracts say that the gateway subscribes; here its queue was not declared.
    message.destination = Destination::Event("catalog.import_completed.v1".into());
    let failed = rig.broker.publish(std::slice::from_ref(&message)).await.remove(0);
    assert!(matches!(failed, Err(PublishError::Unroutable(_))), "{failed:?}");
    rig.broker.declare(&[&contracts::queues::GATEWAY_EVENTS]).await?;
    rig.broker.publish(&[message]).await.remove(0)?;
    Ok(())
}

#[tokio::test]
async fn a_transport_that_is_not_configured_is_unavailable() -> Result<()> {
    let broker = Broker::new(BrokerConfig { service: "test".into(), ..Default::default() })?;
    drop(messaging::Consumer::new(&broker, &WORK));
    let failed = broker.publish(&[command("nowhere")?]).await.remove(0);
    assert!(matches!(failed, Err(PublishError::Unavailable(_))), "{failed:?}");
    assert!(broker.ping().await.is_empty());
    assert!(broker.declare(&[&WORK]).await.is_err());
    Ok(())
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let config = |transports: &[(&str, Transport)]| BrokerConfig {
        service: "test".into(),
        amqp_url: Some("amqp://localhost".into()),
        sqs: Some(messaging::SqsConfig::default()),
        transports: transports.iter().map(|(queue, transport)| ((*queue).to_owned(), *transport)).collect(),
        ..Default::default()
    };
    assert!(Broker::new(config(&[("catalog.imports", Transport::Amqp)])).is_ok());
    assert!(Broker::new(config(&[("gateway.events", Transport::Sqs)])).is_err(), "SQS has no topics");
    assert!(Broker::new(config(&[("catalog.imports", Transport::Memory)])).is_err());
    assert!(Broker::new(BrokerConfig { amqp_url: Some("nonsense".into()), ..config(&[]) }).is_err());
    let without = BrokerConfig { amqp_url: None, ..config(&[("catalog.imports", Transport::Amqp)]) };
    assert!(Broker::new(without).is_err());
}
