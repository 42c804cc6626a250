//! Who holds a job, and what a holder may write.

mod common;

use std::time::Duration;

use anyhow::Result;
use common::{LEASE, World};
use jobs::{
    Claim, Error, Lease, Position, Progress, State, checkpoint, claim, complete, defer, fail, heartbeat,
    postpone, release, request_cancel,
};
use sea_orm::sqlx;
use serde_json::json;
use uuid::Uuid;

fn progress(processed: i64) -> Progress {
    Progress { total: Some(100), processed, successful: processed, failed: 0 }
}

const START: Position = Position::new(0, 0);

/// That every function that takes a lease refuses this one, and changes nothing.
async fn writes_nothing(world: &World, stale: &Lease) -> Result<()> {
    let mut conn = world.pool.acquire().await?;
    let conn = &mut *conn;
    let before = world.get(stale.job).await?;
    let far = Position::new(9, 9);
    let written = [
        checkpoint(conn, stale, &json!({"row": 10}), far, &progress(10)).await.map(drop),
        jobs::progress(conn, stale, &progress(10)).await.map(drop),
        heartbeat(conn, stale).await.map(drop),
        complete(conn, stale, &json!({})).await.map(drop),
        fail(conn, stale, "no").await.map(drop),
        jobs::cancelled(conn, stale).await.map(drop),
        defer(conn, stale, "no", Duration::ZERO).await.map(drop),
        release(conn, stale).await.map(drop),
        postpone(conn, stale, Duration::ZERO).await.map(drop),
    ];
    for (place, written) in written.into_iter().enumerate() {
        assert!(matches!(written, Err(Error::LeaseLost)), "function {place}: {written:?}");
    }
    assert_eq!(world.get(stale.job).await?, before);
    Ok(())
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
    let lost =
        checkpoint(&mut transaction, &stale, &json!({"row": 10}), Position::new(0, 10), &progress(10)).await;
    assert!(matches!(lost, Err(Error::LeaseLost)), "{lost:?}");
    drop(transaction);
    assert_eq!(world.count("SELECT count(*) FROM effect").await?, 0);

    writes_nothing(&world, &stale).await?;
    let mut conn = world.pool.acquire().await?;
    let conn = &mut *conn;
    checkpoint(conn, &fresh, &json!({"row": 10}), Position::new(0, 10), &progress(10)).await?;
    let done = complete(conn, &fresh, &json!({"rows": 100})).await?;
    assert_eq!((done.state, done.result.clone()), (State::Completed, Some(json!({"rows": 100}))));
    // The end is an end for its holder too.
    assert!(matches!(fail(conn, &fresh, "no").await, Err(Error::LeaseLost)));
    assert_eq!(world.claim(id, "c").await?, Claim::Finished(done));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_epoch_was_given_again_after_a_failover_can_write_nothing() -> Result<()> {
    let world = World::new("lease_failover").await?;
    let id = world.job(3).await?;
    let (_, stale) = world.hold(id, "a").await?;
    world.fail_over(id).await?;
    // Nobody has claimed it yet; then somebody has, by the same epoch; even the same process.
    writes_nothing(&world, &stale).await?;
    let (_, fresh) = world.hold(id, "a").await?;
    assert_eq!((fresh.epoch, fresh.job), (stale.epoch, stale.job));
    assert_ne!((fresh.token, &fresh.owner), (stale.token, &stale.owner));
    request_cancel(&mut *world.pool.acquire().await?, id).await?;
    writes_nothing(&world, &stale).await?;
    let mut conn = world.pool.acquire().await?;
    checkpoint(&mut conn, &fresh, &json!({"row": 1}), START, &progress(1)).await?;
    assert_eq!(complete(&mut conn, &fresh, &json!({})).await?.state, State::Completed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_the_version_before_tokens_shuts_out_a_holder_of_the_same_epoch() -> Result<()> {
    let world = World::new("lease_rolling").await?;
    let id = world.job(3).await?;
    let (_, stale) = world.hold(id, "new").await?;
    world.fail_over(id).await?;
    // As that version claims: its owner names the process.
    let claim = "UPDATE jobs SET state = 'running', owner = 'host:1:process', epoch = epoch + 1,
             lease_until = clock_timestamp() + interval '1 minute' WHERE id = $1";
    world.run(claim, id).await?;
    assert_eq!(world.get(id).await?.epoch, stale.epoch);
    writes_nothing(&world, &stale).await?;
    // And it is shut out by the next claim, for it compares epochs.
    world.lapse(id).await?;
    let (job, fresh) = world.hold(id, "new").await?;
    assert_eq!((job.epoch, job.owner.as_ref()), (stale.epoch + 1, Some(&fresh.owner)));
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
    checkpoint(&mut conn, &lease, &json!({}), START, &progress(1)).await?;
    assert!(matches!(world.claim(id, "b").await?, Claim::Busy { .. }), "it was extended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_count_claims_that_reach_nothing_new() -> Result<()> {
    let world = World::new("lease_attempts").await?;
    let id = world.job(2).await?;
    let mut conn = world.pool.acquire().await?;
    // Every claim gets on a little before its worker dies: it may go on for ever. A later phase is further, whatever
    // its step.
    for (n, position) in [(0, 7), (0, 8), (1, 0), (3, -5), (3, -4)].into_iter().enumerate() {
        let (job, lease) = world.hold(id, "a").await?;
        assert_eq!(job.attempts, 1);
        assert_eq!(job.checkpoint, (n > 0).then(|| json!({"n": n - 1})), "as it was written");
        let position = Position::new(position.0, position.1);
        checkpoint(&mut conn, &lease, &json!({"n": n}), position, &progress(0)).await?;
        let job = world.get(id).await?;
        assert_eq!((job.attempts, job.reached), (0, Some(position)));
        world.lapse(id).await?;
    }
    // From here on none does, whatever its checkpoints say: it comes to where others were, or back to before.
    for attempt in 1..=2 {
        let (job, lease) = world.hold(id, "a").await?;
        assert_eq!(job.attempts, attempt);
        for position in [(0, 1000), (3, -4), (2, 9)] {
            let (position, told) =
                (Position::new(position.0, position.1), json!({"attempt": attempt, "at": position.1}));
            checkpoint(&mut conn, &lease, &told, position, &progress(4)).await?;
            let job = world.get(id).await?;
            assert_eq!((job.attempts, job.reached), (attempt, Some(Position::new(3, -4))));
            assert_eq!(job.checkpoint, Some(told), "where it goes on may be before");
        }
        jobs::progress(&mut conn, &lease, &progress(50 + i64::from(attempt))).await?;
        let job = world.get(id).await?;
        assert_eq!((job.attempts, job.progress.processed), (attempt, 50 + i64::from(attempt)));
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
async fn a_checkpoint_of_the_version_before_positions_is_gone_on_from() -> Result<()> {
    let world = World::new("lease_old_place").await?;
    let mut conn = world.pool.acquire().await?;
    // One that says something, and one that its work left empty.
    for old in [json!({"row": 4}), json!(null)] {
        let id = world.job(3).await?;
        sqlx::query("UPDATE jobs SET checkpoint = $2, attempts = 1 WHERE id = $1")
            .bind(id)
            .bind(&old)
            .execute(&world.pool)
            .await?;
        let (job, lease) = world.hold(id, "a").await?;
        assert_eq!((job.checkpoint, job.reached, job.attempts), (Some(old), None, 2));
        checkpoint(&mut conn, &lease, &json!({"row": 4}), START, &progress(4)).await?;
        assert_eq!(world.get(id).await?.attempts, 0, "the first position is an advance");
        world.lapse(id).await?;
        let (_, lease) = world.hold(id, "a").await?;
        checkpoint(&mut conn, &lease, &json!({"row": 5}), START, &progress(4)).await?;
        assert_eq!(world.get(id).await?.attempts, 1);
    }
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
async fn a_postponed_job_waits_and_the_attempt_does_not_count() -> Result<()> {
    let world = World::new("lease_postpone").await?;
    let id = world.job(1).await?;
    let mut conn = world.pool.acquire().await?;
    let (_, lease) = world.hold(id, "a").await?;
    let job = postpone(&mut conn, &lease, Duration::from_secs(600)).await?;
    assert_eq!((job.state, job.attempts, job.error), (State::Pending, 0, None));
    assert!(job.next_run_at > chrono::Utc::now() + chrono::TimeDelta::seconds(500));
    assert!(matches!(claim(&mut conn, id, "b", LEASE).await?, Claim::NotDue));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_learns_of_a_cancel_wish() -> Result<()> {
    let world = World::new("lease_cancel").await?;
    let id = world.job(1).await?;
    let mut conn = world.pool.acquire().await?;
    let (_, lease) = world.hold(id, "a").await?;
    assert!(!heartbeat(&mut conn, &lease).await?.cancel_requested);
    assert!(!checkpoint(&mut conn, &lease, &json!({}), START, &progress(1)).await?.cancel_requested);
    request_cancel(&mut conn, id).await?;
    assert!(heartbeat(&mut conn, &lease).await?.cancel_requested);
    let standing = checkpoint(&mut conn, &lease, &json!({}), START, &progress(2)).await?;
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
async fn whoever_gives_a_job_back_does_not_postpone_its_cancel() -> Result<()> {
    let world = World::new("lease_cancel_due").await?;
    let mut conn = world.pool.acquire().await?;
    for (deferred, asked_first) in [(true, true), (true, false), (false, true), (false, false)] {
        let id = world.job(3).await?;
        let (_, lease) = world.hold(id, "a").await?;
        if asked_first {
            request_cancel(&mut conn, id).await?;
        }
        if deferred {
            defer(&mut conn, &lease, "later", Duration::from_secs(3600)).await?;
        } else {
            release(&mut conn, &lease).await?;
        }
        request_cancel(&mut conn, id).await?;
        let (job, lease) = world.hold(id, "b").await?;
        assert!(job.cancel_requested_at.is_some(), "deferred: {deferred}, asked first: {asked_first}");
        assert_eq!(jobs::cancelled(&mut conn, &lease).await?.state, State::Cancelled);
    }
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
