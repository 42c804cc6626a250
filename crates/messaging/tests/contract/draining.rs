use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use contracts::Transport;
use messaging::{JobError, Policy};
use tokio::sync::Semaphore;

use crate::{contract, harness::*};

contract!(a_drain_lets_handlers_finish_and_loses_nothing: Amqp, Sqs);
async fn a_drain_lets_handlers_finish_and_loses_nothing(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let messages = (0..12).map(|n| command(&n.to_string())).collect::<Result<Vec<_>>>()?;
    for result in rig.broker.publish(&messages).await {
        result?;
    }
    let (tell, mut reports) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let first = rig.consume(Policy { concurrency: 3, ..quick() }, {
        let (tell, gate) = (tell.clone(), gate.clone());
        move |task, context| {
            let (tell, gate) = (tell.clone(), gate.clone());
            let _ = tell.send((task.clone(), "started", context.attempt));
            async move {
                gate.acquire().await.map_err(JobError::fail)?.forget();
                let _ = tell.send((task, "finished", context.attempt));
                Ok(())
            }
        }
    });
    let started: BTreeSet<String> = reports.take(3).await?.into_iter().map(|report| report.0).collect();
    first.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!first.task.is_finished(), "it waits for its handlers");
    gate.add_permits(3);
    first.stop().await?;
    let finished = reports.rest();
    assert!(finished.iter().all(|report| report.1 == "finished"), "nothing was begun after the signal");
    assert_eq!(finished.iter().map(|report| report.0.clone()).collect::<BTreeSet<_>>(), started);

    // What it finished is acked, what it did not begin is there for the next.
    let second = rig.consume(quick(), move |task, context| {
        let _ = tell.send((task, "second", context.attempt));
        async { Ok(()) }
    });
    let rest = reports.take(9).await?;
    assert!(rest.iter().all(|report| !started.contains(&report.0)));
    assert_eq!(rest.iter().map(|report| &report.0).collect::<BTreeSet<_>>().len(), 9);
    rig.empty().await?;
    second.stop().await?;
    assert!(reports.rest().is_empty());
    Ok(())
}

contract!(a_long_handler_releases_its_message_to_the_next_worker: Amqp, Sqs, Memory);
async fn a_long_handler_releases_its_message_to_the_next_worker(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let first = rig.consume(quick(), {
        let tell = tell.clone();
        move |_, context| {
            let _ = tell.send(context.attempt);
            async move {
                context.shutdown.cancelled().await;
                Err(JobError::Release)
            }
        }
    });
    rig.send("long").await?;
    assert_eq!(reports.next().await?, 1);
    let since = Instant::now();
    first.stop().await?;
    let second = rig.consume(quick(), move |_, context| {
        let _ = tell.send(context.attempt);
        async { Ok(()) }
    });
    let attempt = reports.next().await?;
    assert!(since.elapsed() < Duration::from_secs(10), "at once, not after a timeout");
    // SQS counts receives, whatever became of them.
    assert_eq!(attempt, if transport == Transport::Sqs { 2 } else { 1 });
    rig.empty().await?;
    second.stop().await
}
