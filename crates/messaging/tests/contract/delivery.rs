use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use contracts::{Message as _, Transport, catalog::v1::ProcessImport};
use messaging::{Envelope, Policy};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{contract, harness::*};

contract!(a_handler_gets_what_was_sent: Amqp, Sqs, Memory);
async fn a_handler_gets_what_was_sent(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let consumer = rig.consume(quick(), move |task, context| {
        let _ = tell.send((task, context));
        async { Ok(()) }
    });
    let id = rig.send("one").await?;
    let (task, context) = reports.next().await?;
    assert_eq!(task, "one");
    assert_eq!(context.id, id);
    assert_eq!(context.kind, ProcessImport::TYPE);
    assert_eq!(context.source, "/lote/test");
    assert_eq!(context.subject.as_deref(), Some("one"));
    assert_eq!(context.correlation_id.as_deref(), Some("correlation of one"));
    assert_eq!((context.queue, context.attempt, context.max_attempts), (WORK.name, 1, 3));
    assert!((chrono::Utc::now() - context.time).num_seconds() < 60);
    rig.empty().await?;
    consumer.stop().await?;
    assert!(reports.rest().is_empty(), "delivered once");
    Ok(())
}

contract!(what_a_later_version_adds_keeps_no_message_from_its_handler: Amqp, Sqs, Memory);
async fn what_a_later_version_adds_keeps_no_message_from_its_handler(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let consumer = rig.consume(quick(), move |task, _| {
        let _ = tell.send(task);
        async { Ok(()) }
    });
    let envelope = Envelope::new("test", &ProcessImport { task_id: "one".into() })?;
    let mut grown = serde_json::to_value(&envelope)?;
    grown["addedlater"] = json!("an extension");
    grown["data"]["addedLater"] = json!({ "deep": [1] });
    rig.send_raw(grown.to_string()).await?;
    assert_eq!(reports.next().await?, "one");
    rig.empty().await?;
    consumer.stop().await
}

contract!(many_messages_arrive_once_each: Amqp, Sqs, Memory);
async fn many_messages_arrive_once_each(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let consumer = rig.consume(Policy { concurrency: 16, ..quick() }, move |task, _| {
        let _ = tell.send(task);
        async { Ok(()) }
    });
    let messages = (0..137).map(|n| command(&n.to_string())).collect::<Result<Vec<_>>>()?;
    for result in rig.broker.publish(&messages).await {
        result?;
    }
    let got: BTreeSet<String> = reports.take(137).await?.into_iter().collect();
    assert_eq!(got.len(), 137);
    rig.empty().await?;
    consumer.stop().await?;
    assert!(reports.rest().is_empty());
    Ok(())
}

contract!(no_more_handlers_work_than_the_policy_says: Amqp, Sqs, Memory);
async fn no_more_handlers_work_than_the_policy_says(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let (gate, at_work) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let consumer = rig.consume(Policy { concurrency: 3, ..quick() }, {
        let gate = gate.clone();
        move |_, _| {
            let (gate, at_work, tell) = (gate.clone(), at_work.clone(), tell.clone());
            async move {
                let _ = tell.send(at_work.fetch_add(1, Ordering::SeqCst) + 1);
                gate.acquire().await.map_err(messaging::JobError::fail)?.forget();
                at_work.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        }
    });
    let messages = (0..9).map(|n| command(&n.to_string())).collect::<Result<Vec<_>>>()?;
    for result in rig.broker.publish(&messages).await {
        result?;
    }
    // Each counts itself, and tells of it a moment later: the last to count may be the first to tell.
    let mut first = reports.take(3).await?;
    first.sort_unstable();
    assert_eq!(first, [1, 2, 3]);
    // Each that ends lets one in.
    for _ in 0..6 {
        gate.add_permits(1);
        assert!(reports.next().await? <= 3);
    }
    gate.add_permits(3);
    rig.empty().await?;
    consumer.stop().await
}
