use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use contracts::{
    Transport,
    catalog::v1::{ImportCompleted, ImportFailed, ImportSummary},
    queues::GATEWAY_EVENTS,
    sms::v1::{Campaign, CampaignPaused, CampaignStarted, ContactOptedOut},
};
use messaging::{Broker, BrokerConfig, Destination, Envelope, Outgoing};
use serde_json::Value;
use stack::{Namespace, wait::until};
use uuid::Uuid;

use crate::{harness::Setup, stream::Source, upstream::Upstream};

const SOON: Duration = Duration::from_secs(30);

fn broker(namespace: &Namespace) -> anyhow::Result<Broker> {
    Broker::new(BrokerConfig {
        service: "test".into(),
        amqp_url: Some(namespace.servers().amqp_url.clone()),
        sqs: None,
        prefix: namespace.queue_prefix.clone(),
        transports: HashMap::new(),
    })
}

fn completed(task: &str, version: u64) -> ImportCompleted {
    let summary = ImportSummary { total: 2, accepted: 1, rejected: 1, duplicates: 0, created: 1, updated: 0 };
    ImportCompleted {
        task_id: task.into(),
        proveedor_id: "PROV001".into(),
        filename: "a.xlsx".into(),
        summary: Some(summary),
        version,
    }
}

fn failed(task: &str, version: u64) -> ImportFailed {
    ImportFailed {
        task_id: task.into(),
        proveedor_id: "PROV001".into(),
        filename: "a.xlsx".into(),
        reason: "Archivo dañado".into(),
        version,
    }
}

#[tokio::test]
async fn a_gateway_alone_makes_the_queues_of_all_services() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_topology").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with_broker(&namespace).start().await?;
    let seen = broker(&namespace)?;
    // It has nothing to do with SQS.
    for queue in contracts::QUEUES.iter().filter(|queue| queue.transport == Transport::Amqp) {
        until(queue.name, SOON, async || seen.depth(queue).await.is_ok()).await?;
    }
    gateway.stop().await
}

#[tokio::test]
async fn each_event_is_shown_once_and_never_after_a_newer_one() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_events").await?;
    let upstream = Upstream::start().await?;
    let one = Setup::new(&namespace, &upstream.url).with_broker(&namespace).start().await?;
    // Two replicas compete for the queue and show the same.
    let two = Setup::new(&namespace, &upstream.url).with_broker(&namespace).start().await?;
    let token = one.user("supplier", Some("PROV001")).await?;
    let mut source = Source::come(&one, &token, None).await?.settled().await?;

    let broker = broker(&namespace)?;
    broker.declare(&[&GATEWAY_EVENTS]).await?;
    let first = Envelope::new("catalog-upload", &completed("t1", 5))?;
    let older = Envelope::new("catalog-upload", &failed("t1", 4))?;
    let last = Envelope::new("catalog-upload", &failed("t2", 1))?;
    let shown = Outgoing::new::<ImportCompleted>(&first)?;
    // Delivered twice, then an older one of the same task, then another task's.
    for message in [shown.clone(), shown] {
        publish(&broker, message).await?;
    }
    let event = source.next().await?.context("an event")?;
    assert_eq!(event.kind, "lote.catalog.v1.ImportCompleted");
    assert_eq!(event.data["data"]["task_id"], "t1");
    assert_eq!(event.data["data"]["resumen"]["exitosos"], 1);
    publish(&broker, Outgoing::new::<ImportFailed>(&older)?).await?;
    // Handled concurrently: the older one is processed once the queue is empty.
    until("the queue is empty", SOON, async || {
        broker.depth(&GATEWAY_EVENTS).await.is_ok_and(|depth| depth.ready + depth.in_flight == 0)
    })
    .await?;
    publish(&broker, Outgoing::new::<ImportFailed>(&last)?).await?;
    let event = source.next().await?.context("an event")?;
    assert_eq!(event.kind, "lote.catalog.v1.ImportFailed");
    assert_eq!(event.data["data"]["task_id"], "t2", "neither the repeated nor the older one is shown");
    assert_eq!(event.data["data"]["error"], "Archivo dañado");

    // What is no event of ours ends where a person sees it.
    let strange = Outgoing {
        destination: Destination::Event("catalog.import_completed.v1".into()),
        id: Uuid::now_v7(),
        kind: "lote.catalog.v1.ImportCompleted".into(),
        body: Bytes::from_static(b"{\"neither\": \"envelope nor event\"}"),
    };
    publish(&broker, strange).await?;
    let admin = one.admin().await?;
    let letters = async || -> anyhow::Result<Value> {
        let request = one.get("/api/v1/admin/gateway/dead-letters").bearer_auth(&admin);
        Ok(request.send().await?.error_for_status()?.json().await?)
    };
    until("the letter is archived", SOON, async || {
        letters().await.is_ok_and(|letters| letters["items"][0]["queue"] == "gateway.events")
    })
    .await?;
    one.stop().await?;
    two.stop().await?;
    Ok(())
}

#[tokio::test]
async fn campaigns_are_for_those_who_see_all_suppliers_and_phones_for_nobody() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_campaigns").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with_broker(&namespace).start().await?;
    let (viewer, supplier) =
        (gateway.user("viewer", None).await?, gateway.user("supplier", Some("PROV001")).await?);
    let bound = gateway.user("viewer", Some("PROV001")).await?;
    let mut all = Source::come(&gateway, &viewer, None).await?.settled().await?;
    let mut bounded = [
        Source::come(&gateway, &supplier, None).await?.settled().await?,
        Source::come(&gateway, &bound, None).await?.settled().await?,
    ];

    let broker = broker(&namespace)?;
    broker.declare(&[&GATEWAY_EVENTS]).await?;
    let campaign = Campaign {
        id: "c1".into(),
        name: "Cobranza".into(),
        date: "2026-11-27".into(),
        description: String::new(),
        state: "EN PROCESO".into(),
        expected_rows: 400,
        version: 3,
    };
    let started = CampaignStarted { campaign: Some(campaign.clone()) };
    let paused = CampaignPaused {
        campaign: Some(Campaign { state: "PAUSADA".into(), version: 4, ..campaign }),
        reason: "Pausada por ana".into(),
    };
    let opted_out =
        ContactOptedOut { phone: "+526121000150".into(), source: "respuesta".into(), opted_out_at: None };
    publish(&broker, Outgoing::new::<CampaignStarted>(&Envelope::new("sms-dispatch", &started)?)?).await?;
    let event = all.next().await?.context("an event")?;
    assert_eq!(event.kind, "lote.sms.v1.CampaignStarted");
    let data = &event.data["data"];
    assert_eq!(event.data["service"], "sms-dispatch");
    assert_eq!((data["id"].as_str(), data["state"].as_str()), (Some("c1"), Some("running")));
    assert_eq!((data["recipients"].as_u64(), data["date"].as_str()), (Some(400), Some("2026-11-27")));
    publish(&broker, Outgoing::new::<CampaignPaused>(&Envelope::new("sms-dispatch", &paused)?)?).await?;
    let event = all.next().await?.context("an event")?;
    assert_eq!(event.kind, "lote.sms.v1.CampaignPaused");
    assert_eq!(event.data["data"]["state"], "paused");
    assert_eq!(event.data["data"]["reason"], "Pausada por ana");
    publish(&broker, Outgoing::new::<ContactOptedOut>(&Envelope::new("sms-dispatch", &opted_out)?)?).await?;
    let event = all.next().await?.context("an event")?;
    assert_eq!(event.kind, "lote.sms.v1.ContactOptedOut");
    assert_eq!(event.data["data"]["phone"], "+52******0150");
    assert!(!event.data.to_string().contains("6121000150"), "{event:?}");

    // Their streams live, and had nothing to say of it.
    let theirs = Envelope::new("catalog-upload", &completed("t1", 5))?;
    publish(&broker, Outgoing::new::<ImportCompleted>(&theirs)?).await?;
    for source in &mut bounded {
        let event = source.next().await?.context("an event")?;
        assert_eq!(event.kind, "lote.catalog.v1.ImportCompleted", "{event:?}");
    }
    gateway.stop().await
}

/// As the outbox does: until the broker has confirmed it. (A new quorum queue refuses until it has its leader.)
async fn publish(broker: &Broker, message: Outgoing) -> anyhow::Result<()> {
    until("the broker takes it", SOON, async || {
        broker.publish(std::slice::from_ref(&message)).await.iter().all(Result::is_ok)
    })
    .await
}
