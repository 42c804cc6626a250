//! Who holds a job, and what a holder may write.

mod common;

use std::time::Duration;

use anyhow::Result;
use common::{LEASE, World};
use jobs::{
    Claim, Error, Progress, State, checkpoint, claim, complete, defer, fail, heartbeat, release,
    request_cancel,
};
use sea_orm::sqlx;
use serde_json::json;
use uuid::Uuid;

fn progress(processed: i64) -> Progress {
    Progress { total: Some(100), processed, successful: processed, failed: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_claims_at_once_one_wins() -> Result<()> {
    let world = World::new("lease_race").await?;
    for _ in 0..20 {
        let id = world.job(3).await?;
        let claims = (0..6).map(|n| {
            let pool = world.pool.clone();
            tokio::spawn(async move {
                let mut transaction = pool.begin().await?;
                let claimed = claim(&mut transaction, id, &format!("worker {n}"), LEASE).await?;
                transaction.commit().await?;
                anyhow::Ok(claimed)
            })
        });
        let (mut won, mut busy) = (0, 0);
        for claimed in claims.collect::<Vec<_>>() {
            match claimed.await?? {
                Claim::Claimed(..) => won += 1,
                Claim::Busy { .. } => busy += 1,
                other => anyhow::bail!("{other:?}"),
            }
        }
        assert_eq!((won, busy), (1, 5));
    }
    assert_eq!(world.claim(Uuid::now_v7(), "a").await?, Claim::Missing);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_holder_can_write_nothing() -> Result<()> {
    let world = World::new("lease_stale").await?;
    let id = world.job(3).await?;
    let (_, stale) = world.hold(id, "a").await?;
    world.lapse(id).await?;
    let (_, fresh) = world.hold(id, "b").await?;
    assert_eq!(fresh.epoch, stale.epoch + 1);

    sqlx::query("CREATE TABLE effect (n int)").execute(&world.pool).await?;
    // A batch of the stale holder: its rows go with its checkpoint.
    let mut transaction = world.pool.begin().await?;
    sqlx::query("INSERT INTO effect VALUES (1)").execute(&mut *transaction).await?;
    let lost = checkpoint(&mut transaction, &stale, &json!({"row": 10}), &progress(10)).await;
    assert!(matches!(lost, Err(Error::LeaseLost)), "{lost:?}");
    drop(transaction);
    assert_eq!(world.count("SELECT count(*) FROM effect").await?, 0);

    let mut conn = world.pool.acquire().await?;
    let conn = &mut *conn;
    let before = world.get(id).await?;
    assert!(matches!(heartbeat(conn, &stale).await, Err(Error::LeaseLost)));
    assert!(matches!(complete(conn, &stale, &json!({})).await, Err(Error::LeaseLost)));
    assert!(matches!(fail(conn, &stale, "no").await, Err(Error::LeaseLost)));
    assert!(matches!(defer(conn, &stale, "no", Duration::ZERO).await, Err(Error::LeaseLost)));
    assert!(matches!(release(conn, &stale).await, Err(Error::LeaseLost)));
    assert!(matches!(jobs::cancelled(conn, &stale).await, Err(Error::LeaseLost)));
    assert_eq!(world.get(id).await?, before);

    checkpoint(conn, &fresh, &json!({"row": 10}), &progress(10)).await?;
    let done = complete(conn, &fresh, &json!({"rows": 100})).await?;
    assert_eq!((done.state, done.result.clone()), (State::Completed, Some(json!({"rows": 100}))));
    // The end is an end for its holder too.
    assert!(matches!(fail(conn, &fresh, "no").await, Err(Error::LeaseLost)));
    assert_eq!(world.claim(id, "c").await?, Claim::Finished(done));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_lapsed_but_was_not_taken_still_holds() -> Result<()> {
    let world = World::new("lease_lapsed").await?;
    let id = world.job(3).await?;
    let (_, lease) = world.hold(id, "a").await?;
    world.lapse(id).await?;
    let mut conn = world.pool.acquire().await?;
    heartbeat(&mut conn, &lease).await?;
    assert!(matches!(world.claim(id, "b").await?, Claim::Busy { .. }), "it was extended");
    world.lapse(id).await?;
    checkpoint(&mut conn, &lease, &json!(1), &progress(1)).await?;
    assert!(matches!(world.claim(id, "b").await?, Claim::Busy { .. }), "it was extended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_count_claims_without_progress() -> Result<()> {
    let world = World::new("lease_attempts").await?;
    let id = world.job(2).await?;
    let mut conn = world.pool.acquire().await?;
    // Every claim gets on a little before its worker dies: it may go on for ever.
    for row in 0..5 {
        let (job, lease) = world.hold(id, "a").await?;
        assert_eq!(job.attempts, 1);
        assert_eq!(job.checkpoint, (row > 0).then(|| json!({"row": row - 1})));
        checkpoint(&mut conn, &lease, &json!({"row": row}), &progress(row)).await?;
        assert_eq!(world.get(id).await?.attempts, 0);
        world.lapse(id).await?;
    }
    // From here on none does. The same checkpoint again is no progress.
    for attempt in 1..=2 {
        let (job, lease) = world.hold(id, "a").await?;
        assert_eq!(job.attempts, attempt);
        checkpoint(&mut conn, &lease, &json!({"row": 4}), &progress(4)).await?;
        assert_eq!(world.get(id).await?.attempts, attempt);
        world.lapse(id).await?;
    }
    let Claim::Exhausted(job, lease) = world.claim(id, "a").await? else {
        anyhow::bail!("it has had its attempts");
    };
    assert_eq!(job.attempts, 2);
    let failed = fail(&mut conn, &lease, "worker died 2 times").await?;
    assert_eq!((failed.state, failed.error.as_deref()), (State::Failed, Some("worker died 2 times")));
    assert_eq!(jobs::doctor(&world.pool).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_job_comes_back_when_it_is_due_until_its_attempts_are_used_up() -> Result<()> {
    let world = World::new("lease_defer").await?;
    let id = world.job(2).await?;
    let mut conn = world.pool.acquire().await?;
    let (_, lease) = world.hold(id, "a").await?;
    let deferred = defer(&mut conn, &lease, "S3 is away", Duration::from_secs(3600)).await?;
    assert_eq!((deferred.state, deferred.attempts), (State::Pending, 1));
    assert_eq!((deferred.error.as_deref(), deferred.owner), (Some("S3 is away"), None));
    assert_eq!(world.claim(id, "b").await?, Claim::NotDue);
    world.make_due(id).await?;
    let (job, lease) = world.hold(id, "b").await?;
    assert_eq!(job.attempts, 2);
    let failed = defer(&mut conn, &lease, "S3 is still away", Duration::from_secs(1)).await?;
    assert_eq!((failed.state, failed.error.as_deref()), (State::Failed, Some("S3 is still away")));
    assert!(failed.finished_at.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_job_is_due_at_once_and_the_attempt_does_not_count() -> Result<()> {
    let world = World::new("lease_release").await?;
    let id = world.job(1).await?;
    let mut conn = world.pool.acquire().await?;
    for _ in 0..3 {
        let (job, lease) = world.hold(id, "a").await?;
        assert_eq!(job.attempts, 1);
        assert_eq!(release(&mut conn, &lease).await?.attempts, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_learns_of_a_cancel_wish() -> Result<()> {
    let world = World::new("lease_cancel").await?;
    let id = world.job(1).await?;
    let mut conn = world.pool.acquire().await?;
    let (_, lease) = world.hold(id, "a").await?;
    assert!(!heartbeat(&mut conn, &lease).await?.cancel_requested);
    assert!(!checkpoint(&mut conn, &lease, &json!(1), &progress(1)).await?.cancel_requested);
    request_cancel(&mut conn, id).await?;
    assert!(heartbeat(&mut conn, &lease).await?.cancel_requested);
    let standing = checkpoint(&mut conn, &lease, &json!(2), &progress(2)).await?;
    assert!(standing.cancel_requested);
    assert_eq!(standing.version, world.get(id).await?.version);
    // Its worker dies: the next one may claim it, to end it, though its attempts are used up.
    world.lapse(id).await?;
    world.hold(id, "b").await?;
    world.lapse(id).await?;
    let (job, lease) = world.hold(id, "c").await?;
    assert!(job.cancel_requested_at.is_some());
    assert_eq!(jobs::cancelled(&mut conn, &lease).await?.state, State::Cancelled);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_cancels_what_nobody_asked_to() -> Result<()> {
    let world = World::new("lease_unasked").await?;
    let id = world.job(1).await?;
    let (_, lease) = world.hold(id, "a").await?;
    let mut conn = world.pool.acquire().await?;
    assert!(matches!(jobs::cancelled(&mut conn, &lease).await, Err(Error::Database(_))));
    Ok(())
}
