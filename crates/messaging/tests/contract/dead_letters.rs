use anyhow::{Context as _, Result, anyhow};
use contracts::{Message as _, Transport, catalog::v1::ProcessImport};
use messaging::{Envelope, JobError, Policy};

use crate::{contract, harness::*};

contract!(a_permanent_failure_goes_to_the_dead_letters_at_once: Amqp, Sqs, Memory);
async fn a_permanent_failure_goes_to_the_dead_letters_at_once(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let consumer = rig.consume(quick(), move |_, context| {
        let _ = tell.send(context.attempt);
        async { Err(JobError::Fail(anyhow!("the sheet has no header").context("import of catálogo.xlsx"))) }
    });
    let sent = command("broken")?;
    rig.broker.publish(std::slice::from_ref(&sent)).await.remove(0)?;
    let letter = rig.letter().await?;
    assert_eq!(letter.reason, "failed");
    assert_eq!(letter.error, "import of catálogo.xlsx: the sheet has no header");
    assert_eq!(letter.attempts, 1);
    assert_eq!(letter.body, sent.body);
    assert_eq!((letter.id, letter.kind.as_deref()), (Some(sent.id), Some(ProcessImport::TYPE)));
    assert_eq!(letter.origin, WORK.name);
    assert!((chrono::Utc::now() - letter.failed_at).num_seconds() < 60);
    let first = letter.first_failed_at.context("the first failure")?;
    assert!((letter.failed_at - first).num_milliseconds().abs() < 1000);
    letter.ack().await?;
    rig.empty().await?;
    consumer.stop().await?;
    assert_eq!(reports.rest(), [1]);
    until("the letter is gone", async || Ok(rig.broker.depth(&WORK).await?.dead == 0)).await
}

contract!(used_up_attempts_go_to_the_dead_letters: Amqp, Sqs, Memory);
async fn used_up_attempts_go_to_the_dead_letters(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let consumer = rig.consume(quick(), move |_, context| async move {
        Err(JobError::retry(anyhow!("attempt {} of {}", context.attempt, context.max_attempts)))
    });
    rig.send("unlucky").await?;
    let letter = rig.letter().await?;
    assert_eq!((letter.reason.as_str(), letter.attempts), ("attempts", 3));
    assert_eq!(letter.error, "attempt 3 of 3");
    let first = letter.first_failed_at.context("the first failure")?;
    assert!(letter.failed_at - first >= chrono::TimeDelta::milliseconds(200), "{first} {}", letter.failed_at);
    letter.ack().await?;
    consumer.stop().await
}

contract!(what_cannot_be_read_goes_to_the_dead_letters_as_it_is: Amqp, Sqs, Memory);
async fn what_cannot_be_read_goes_to_the_dead_letters_as_it_is(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let consumer = rig.consume(quick(), move |_, _| {
        let _ = tell.send(());
        async { Ok(()) }
    });

    rig.send_raw("{ no envelope").await?;
    let letter = rig.letter().await?;
    assert_eq!(letter.reason, "undecodable");
    assert!(letter.error.starts_with("no envelope: "), "{}", letter.error);
    assert_eq!(letter.body, "{ no envelope");
    assert_eq!((letter.id, letter.kind.as_deref()), (None, None));
    letter.ack().await?;

    // An envelope whose data is another message's.
    let mut envelope = Envelope::new("test", &ProcessImport::default())?;
    envelope.data = serde_json::json!({"taskId": {"not": "a string"}});
    rig.broker.publish(&[outgoing(&envelope)?]).await.remove(0)?;
    let letter = rig.letter().await?;
    assert_eq!((letter.reason.as_str(), letter.id), ("undecodable", Some(envelope.id)));
    letter.ack().await?;

    let mut envelope = Envelope::new("test", &ProcessImport::default())?;
    envelope.kind = "lote.catalog.v9.Unheard".into();
    rig.broker.publish(&[outgoing(&envelope)?]).await.remove(0)?;
    let letter = rig.letter().await?;
    assert_eq!(letter.reason, "unknown_type");
    assert_eq!(letter.kind.as_deref(), Some("lote.catalog.v9.Unheard"));
    letter.ack().await?;

    rig.empty().await?;
    consumer.stop().await?;
    assert!(reports.rest().is_empty(), "no handler saw any of it");
    Ok(())
}

contract!(bytes_that_are_no_text_are_kept: Amqp, Memory);
async fn bytes_that_are_no_text_are_kept(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let consumer = rig.consume(quick(), |_, _| async { Ok(()) });
    rig.send_raw(vec![0, 159, 146, 150]).await?;
    let letter = rig.letter().await?;
    assert_eq!(letter.reason, "undecodable");
    assert_eq!(letter.body.as_ref(), [0, 159, 146, 150]);
    letter.ack().await?;
    consumer.stop().await
}

contract!(a_letter_that_was_not_archived_comes_again: Amqp);
async fn a_letter_that_was_not_archived_comes_again(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let policy = Policy { max_attempts: 1, ..quick() };
    let consumer = rig.consume(policy, |_, _| async { Err(JobError::fail(anyhow!("no"))) });
    let id = rig.send("kept").await?;
    let mut letters = rig.broker.letters(&WORK);
    // More often than a 4.x broker delivers a message where no limit is set.
    for _ in 0..25 {
        drop(within(letters.next()).await?);
    }
    let letter = within(letters.next()).await?;
    assert_eq!((letter.id, letter.reason.as_str()), (Some(id), "failed"));
    letter.ack().await?;
    consumer.stop().await
}

contract!(what_an_archiver_held_when_it_left_goes_to_the_next: Amqp);
async fn what_an_archiver_held_when_it_left_goes_to_the_next(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let policy = Policy { max_attempts: 1, ..quick() };
    let consumer = rig.consume(policy, |_, _| async { Err(JobError::fail(anyhow!("no"))) });
    for n in 0..3 {
        rig.send(&n.to_string()).await?;
    }
    until("three letters", async || Ok(rig.broker.depth(&WORK).await?.dead == 3)).await?;
    // It has asked for letters, was given some, and took one.
    let mut leaving = rig.broker.letters(&WORK);
    within(leaving.next()).await?.ack().await?;
    drop(leaving);
    // Others were about to ask, and left.
    for micros in [0, 500, 2_000, 10_000] {
        let mut letters = rig.broker.letters(&WORK);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(micros), letters.next()).await;
    }
    let mut next = rig.broker.letters(&WORK);
    for _ in 0..2 {
        within(next.next()).await?.ack().await?;
    }
    consumer.stop().await
}
