//! The sweeper: the nudge of what is due and nobody holds.

mod common;

use std::time::Duration;

use anyhow::Result;
use common::{KIND, World};
use contracts::queues::CATALOG_IMPORTS;
use jobs::{JobKind, Sweeper, defer, release, request_cancel};
use messaging::Broker;
use sea_orm::sqlx;

const NUDGES: &str = "SELECT count(*) FROM outbox";

fn sweeper(world: &World) -> Sweeper {
    let kind = JobKind { lease: Duration::from_secs(30), ..JobKind::new("test", KIND, &CATALOG_IMPORTS) };
    Sweeper::new(world.pool.clone(), Broker::memory(), &CATALOG_IMPORTS, vec![kind])
}

/// As if what was sent had never arrived.
async fn lose(world: &World) -> Result<()> {
    sqlx::query("DELETE FROM outbox").execute(&world.pool).await?;
    Ok(())
}

/// As if all this had happened so long ago.
async fn age(world: &World, seconds: i32) -> Result<()> {
    sqlx::query(
        "UPDATE jobs SET nudged_at = nudged_at - make_interval(secs => $1),
                lease_until = lease_until - make_interval(secs => $1),
                next_run_at = next_run_at - make_interval(secs => $1)",
    )
    .bind(f64::from(seconds))
    .execute(&world.pool)
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sweepers_at_once_nudge_once() -> Result<()> {
    let world = World::new("sweep_two").await?;
    for _ in 0..700 {
        world.job(3).await?;
    }
    let (a, b) = (sweeper(&world), sweeper(&world));
    assert_eq!(a.sweep().await?, 0, "their creator's nudge is young");
    age(&world, 31).await?;
    let (by_a, by_b) = tokio::join!(a.sweep(), b.sweep());
    // What the one had locked the other skipped; it is found at the next look, if at all.
    let left = a.sweep().await?;
    assert_eq!(by_a? + by_b? + left, 700);
    assert_eq!(world.count(NUDGES).await?, 700);
    assert_eq!(
        world.count("SELECT count(DISTINCT body::jsonb -> 'data' ->> 'jobId') FROM outbox").await?,
        700
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nudge_that_stays_unanswered_is_repeated_ever_less_often() -> Result<()> {
    let world = World::new("sweep_pause").await?;
    world.job(3).await?;
    let sweeper = sweeper(&world);
    for pause in [30, 60, 120, 240, 480, 960, 960, 960] {
        age(&world, pause - 5).await?;
        assert_eq!(sweeper.sweep().await?, 0, "not before {pause} s");
        lose(&world).await?;
        age(&world, 6).await?;
        assert_eq!(sweeper.sweep().await?, 1, "after {pause} s");
    }
    Ok(())
}

/// Scaling goes by the queue's length, which must not grow with the time that nobody works.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_nobody_works_on_does_not_grow_by_itself() -> Result<()> {
    let world = World::new("sweep_depth").await?;
    let sweeper = sweeper(&world);
    for _ in 0..1_000 {
        world.job(3).await?;
    }
    age(&world, 31).await?;
    sweeper.sweep().await?;
    assert_eq!(world.count(NUDGES).await?, 1_000);
    for _ in 0..20 {
        age(&world, 2_000).await?;
        sweeper.sweep().await?;
    }
    assert_eq!(world.count(NUDGES).await?, 1_000, "there is a message for each");
    // Some are lost: as many are sent again, to those that wait for longest.
    sqlx::query("DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT 7)")
        .execute(&world.pool)
        .await?;
    assert_eq!(sweeper.sweep().await?, 7);
    assert_eq!(world.count(NUDGES).await?, 1_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_nudged_when_its_worker_died_and_not_while_it_lives() -> Result<()> {
    let world = World::new("sweep_lease").await?;
    let id = world.job(3).await?;
    let (_, lease) = world.hold(id, "a").await?;
    let sweeper = sweeper(&world);
    age(&world, 55).await?;
    assert_eq!(sweeper.sweep().await?, 0);
    age(&world, 10).await?;
    assert_eq!(sweeper.sweep().await?, 1);
    assert_eq!(sweeper.sweep().await?, 0);
    // Another takes over and ends it.
    let (_, second) = world.hold(id, "b").await?;
    assert!(second.epoch > lease.epoch);
    let mut conn = world.pool.acquire().await?;
    jobs::complete(&mut conn, &second, &serde_json::json!({})).await?;
    age(&world, 10_000).await?;
    assert_eq!(sweeper.sweep().await?, 0, "what has ended is left alone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deferred_jobs_are_nudged_when_due_and_cancelled_ones_at_once() -> Result<()> {
    let world = World::new("sweep_due").await?;
    let (deferred, released, unwanted) = (world.job(3).await?, world.job(3).await?, world.job(3).await?);
    let mut conn = world.pool.acquire().await?;
    let (_, lease) = world.hold(deferred, "a").await?;
    defer(&mut conn, &lease, "later", Duration::from_secs(10)).await?;
    let (_, lease) = world.hold(released, "a").await?;
    release(&mut conn, &lease).await?;
    let sweeper = sweeper(&world);
    assert_eq!(sweeper.sweep().await?, 0, "the one is not due, the other's message comes back by itself");
    age(&world, 11).await?;
    assert_eq!(sweeper.sweep().await?, 1);
    assert_eq!(world.count(NUDGES).await?, 1);
    request_cancel(&mut conn, unwanted).await?;
    assert_eq!(sweeper.sweep().await?, 1);
    let kind = JobKind::new("test", "another.kind", &CATALOG_IMPORTS);
    let other = Sweeper::new(world.pool.clone(), Broker::memory(), &CATALOG_IMPORTS, vec![kind]);
    age(&world, 10_000).await?;
    assert_eq!(other.sweep().await?, 0, "each sweeper has its own kinds");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_end_was_asked_for_is_nudged_by_the_next_sweep() -> Result<()> {
    let world = World::new("sweep_cancel").await?;
    let sweeper = sweeper(&world);
    let mut conn = world.pool.acquire().await?;
    // The cancel came before its holder gave it back, and after.
    for cancel_first in [true, false] {
        for deferred in [true, false] {
            let id = world.job(3).await?;
            let (_, lease) = world.hold(id, "a").await?;
            if cancel_first {
                request_cancel(&mut conn, id).await?;
            }
            if deferred {
                defer(&mut conn, &lease, "later", Duration::from_secs(3600)).await?;
            } else {
                release(&mut conn, &lease).await?;
            }
            if !cancel_first {
                assert_eq!(sweeper.sweep().await?, 0);
                request_cancel(&mut conn, id).await?;
            }
            assert_eq!(sweeper.sweep().await?, 1, "cancel first: {cancel_first}, deferred: {deferred}");
            assert_eq!(sweeper.sweep().await?, 0);
        }
    }
    // Its worker died, and many nudges went unanswered: the next one would be 16 minutes away.
    let id = world.job(3).await?;
    world.hold(id, "a").await?;
    age(&world, 61).await?;
    for _ in 0..7 {
        sweeper.sweep().await?;
        lose(&world).await?;
        age(&world, 1_000).await?;
    }
    sweeper.sweep().await?;
    assert_eq!(sweeper.sweep().await?, 0);
    request_cancel(&mut conn, id).await?;
    assert_eq!(sweeper.sweep().await?, 1);
    lose(&world).await?;
    age(&world, 31).await?;
    assert!(sweeper.sweep().await? >= 1, "and again after the first pause, were that one lost");
    Ok(())
}

/// No broker tells how old a queue's head is, and where workers are at zero nobody takes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_tells_how_long_the_oldest_job_waits() -> Result<()> {
    let world = World::new("sweep_oldest").await?;
    let (_waits, held) = (world.job(3).await?, world.job(3).await?);
    world.hold(held, "a").await?;
    // The one that is held began long ago, and has a worker.
    age(&world, 3_600).await?;
    sqlx::query("UPDATE jobs SET lease_until = clock_timestamp() + interval '1 h' WHERE id = $1")
        .bind(held)
        .execute(&world.pool)
        .await?;
    sqlx::query("UPDATE jobs SET next_run_at = next_run_at - interval '1 day' WHERE id = $1")
        .bind(held)
        .execute(&world.pool)
        .await?;
    let broker = Broker::memory();
    let kind = JobKind::new("test", KIND, &CATALOG_IMPORTS);
    let sweeper = Sweeper::new(world.pool.clone(), broker.clone(), &CATALOG_IMPORTS, vec![kind]);
    let stop = tokio_util::sync::CancellationToken::new();
    let sweeping = tokio::spawn(sweeper.run(stop.clone()));
    stack::wait::until("the oldest job is told of", common::PATIENCE, || async {
        let age = broker.depth(&CATALOG_IMPORTS).await.ok().and_then(|depth| depth.oldest_age);
        age.is_some_and(|age| (3_600..7_200).contains(&age.as_secs()))
    })
    .await?;
    stop.cancel();
    sweeping.await?;
    Ok(())
}
