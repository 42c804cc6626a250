use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use contracts::Transport;
use messaging::{Backoff, JobError, Policy};

use crate::{contract, harness::*};

contract!(a_retry_comes_after_its_pause_and_counts: Amqp, Sqs, Memory);
async fn a_retry_comes_after_its_pause_and_counts(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let steps = [300, 700].map(Duration::from_millis).to_vec();
    let consumer = rig.consume(Policy { backoff: Backoff { steps }, ..quick() }, move |_, context| {
        let _ = tell.send((Instant::now(), context.id, context.attempt));
        async move {
            match context.attempt {
                3 => Ok(()),
                attempt => Err(JobError::retry(anyhow!("attempt {attempt} fails"))),
            }
        }
    });
    rig.send("again").await?;
    let calls = reports.take(3).await?;
    assert_eq!(calls.iter().map(|call| call.2).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(calls.iter().all(|call| call.1 == calls[0].1), "the id stays");
    // Jitter takes at most a fifth away. (SQS counts whole seconds, rounded up.)
    assert!(calls[1].0 - calls[0].0 >= Duration::from_millis(240));
    assert!(calls[2].0 - calls[1].0 >= Duration::from_millis(560));
    rig.empty().await?;
    consumer.stop().await?;
    assert!(reports.rest().is_empty());
    assert_eq!(rig.broker.depth(&WORK).await?.dead, 0);
    Ok(())
}

contract!(a_retry_does_not_hold_up_others: Amqp, Sqs, Memory);
async fn a_retry_does_not_hold_up_others(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let steps = vec![Duration::from_millis(1500)];
    let policy = Policy { concurrency: 1, backoff: Backoff { steps }, ..quick() };
    let consumer = rig.consume(policy, move |task, context| {
        let _ = tell.send((task.clone(), context.attempt));
        async move {
            if task == "bad" && context.attempt == 1 {
                Err(JobError::retry(anyhow!("later")))
            } else {
                Ok(())
            }
        }
    });
    rig.send("bad").await?;
    assert_eq!(reports.next().await?, ("bad".into(), 1));
    rig.send("good").await?;
    assert_eq!(reports.next().await?, ("good".into(), 1));
    assert_eq!(reports.next().await?, ("bad".into(), 2));
    consumer.stop().await
}

contract!(a_backoff_without_steps_pauses_a_second: Amqp, Sqs, Memory);
async fn a_backoff_without_steps_pauses_a_second(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let policy = Policy { backoff: Backoff { steps: Vec::new() }, ..quick() };
    let consumer = rig.consume(policy, move |_, context| {
        let _ = tell.send((Instant::now(), context.attempt));
        async move { if context.attempt == 1 { Err(JobError::retry(anyhow!("once"))) } else { Ok(()) } }
    });
    rig.send("again").await?;
    let calls = reports.take(2).await?;
    assert_eq!((calls[0].1, calls[1].1), (1, 2));
    assert!(calls[1].0 - calls[0].0 >= Duration::from_millis(800));
    rig.empty().await?;
    consumer.stop().await
}

contract!(a_panic_is_a_retry: Amqp, Sqs, Memory);
async fn a_panic_is_a_retry(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let consumer = rig.consume(quick(), move |task, context| {
        let _ = tell.send(context.attempt);
        async move {
            assert!(context.attempt > 1, "{task} panics once");
            Ok(())
        }
    });
    rig.send("panic").await?;
    assert_eq!(reports.take(2).await?, [1, 2]);
    rig.empty().await?;
    consumer.stop().await
}

contract!(a_panic_that_stays_ends_in_the_dead_letters: Amqp, Sqs, Memory);
async fn a_panic_that_stays_ends_in_the_dead_letters(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let consumer = rig
        .consume(Policy { max_attempts: 1, ..quick() }, |task, _| async move { panic!("{task} is cursed") });
    rig.send("this").await?;
    let letter = rig.letter().await?;
    assert_eq!(letter.reason, "attempts");
    assert_eq!(letter.error, "the handler panicked: this is cursed");
    letter.ack().await?;
    consumer.stop().await
}

contract!(a_deadline_is_a_retry_and_ends_the_handler: Amqp, Sqs, Memory);
async fn a_deadline_is_a_retry_and_ends_the_handler(transport: Transport) -> Result<()> {
    struct Told(tokio::sync::mpsc::UnboundedSender<&'static str>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let policy = Policy { deadline: Duration::from_millis(200), max_attempts: 2, ..quick() };
    let consumer = rig.consume(policy, move |_, _| {
        let told = Told(tell.clone());
        let _ = tell.send("started");
        async move {
            std::future::pending::<()>().await;
            drop(told);
            Ok(())
        }
    });
    rig.send("slow").await?;
    assert_eq!(reports.take(4).await?, ["started", "dropped", "started", "dropped"]);
    let letter = rig.letter().await?;
    assert_eq!((letter.reason.as_str(), letter.attempts), ("attempts", 2));
    assert_eq!(letter.error, "the handler exceeded its deadline of 0.2 s");
    letter.ack().await?;
    consumer.stop().await
}

contract!(the_kill_switch_pauses_a_queue_that_fails_wholesale: Amqp, Sqs, Memory);
async fn the_kill_switch_pauses_a_queue_that_fails_wholesale(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let pause = Duration::from_millis(800);
    let policy = Policy { concurrency: 1, kill_switch_after: 3, kill_switch_pause: pause, ..quick() };
    let failing = std::sync::atomic::AtomicU32::new(4);
    for task in 0..6 {
        rig.send(&task.to_string()).await?;
    }
    let consumer = rig.consume(policy, move |_, _| {
        let _ = tell.send(Instant::now());
        let left = failing.load(std::sync::atomic::Ordering::SeqCst);
        failing.store(left.saturating_sub(1), std::sync::atomic::Ordering::SeqCst);
        async move { if left > 0 { Err(JobError::fail(anyhow!("all fails"))) } else { Ok(()) } }
    });
    let calls = reports.take(6).await?;
    let gaps: Vec<Duration> = calls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Three failures: pause. One is tried and fails: pause. One is tried and succeeds: on.
    assert!(gaps[2] >= pause, "{gaps:?}");
    assert!(gaps[3] >= pause, "{gaps:?}");
    assert!(gaps[4] < pause, "{gaps:?}");
    rig.empty().await?;
    consumer.stop().await?;
    assert_eq!(rig.broker.depth(&WORK).await?.dead, 4);
    Ok(())
}

contract!(the_kill_switch_tries_one_message_a_pause_whatever_takes_long: Amqp, Sqs, Memory);
async fn the_kill_switch_tries_one_message_a_pause_whatever_takes_long(transport: Transport) -> Result<()> {
    let rig = Rig::new(transport).await?;
    let (tell, mut reports) = reports();
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let pause = Duration::from_millis(300);
    let policy = Policy { concurrency: 3, kill_switch_after: 2, kill_switch_pause: pause, ..quick() };
    let consumer = rig.consume(policy, {
        let gate = gate.clone();
        move |task, _| {
            let _ = tell.send((task.clone(), Instant::now()));
            let gate = gate.clone();
            async move {
                match task.as_str() {
                    "bad" => Err(JobError::fail(anyhow!("all fails"))),
                    "long" => {
                        gate.acquire().await.map_err(JobError::fail)?.forget();
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
        }
    });
    let mut run = async |task: &str| -> Result<Instant> {
        rig.send(task).await?;
        let (name, at) = reports.next().await?;
        assert_eq!(name, task);
        Ok(at)
    };
    // One takes long; two fail, and the switch opens.
    run("long").await?;
    run("bad").await?;
    let opened = run("bad").await?;
    // It has begun by now; its failure is counted a moment later.
    tokio::time::sleep(pause / 3).await;
    // A trial that fails, one that takes long itself, one that succeeds.
    let trials = [run("bad").await?, run("long").await?, run("good").await?];
    let gaps: Vec<Duration> =
        std::iter::once(opened).chain(trials).zip(trials).map(|(before, trial)| trial - before).collect();
    assert!(gaps.iter().all(|gap| *gap >= pause), "one a pause: {gaps:?}");
    // It is closed.
    run("next").await?;
    gate.add_permits(2);
    rig.empty().await?;
    consumer.stop().await
}
