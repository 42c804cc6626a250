//! Creating jobs, idempotency keys, requests to cancel, lists.

mod common;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use common::{World, new_job};
use jobs::{Creation, Error, Filter, NewJob, Page, State, create, get_all, list, reopen, request_cancel};
use sea_orm::sqlx;
use serde_json::json;
use uuid::Uuid;

fn with_key(user: &str, key: &str, hash: &str) -> NewJob<'static> {
    NewJob {
        user: Some(user.into()),
        idempotency_key: Some(key.into()),
        request_hash: Some(hash.into()),
        ..new_job()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_job_waits_with_what_it_was_given() -> Result<()> {
    let world = World::new("jobs_new").await?;
    let job = world.get(world.job(7).await?).await?;
    assert_eq!(
        (job.state, job.attempts, job.max_attempts, job.epoch, job.version),
        (State::Pending, 0, 7, 0, 1)
    );
    assert_eq!(job.params, json!({"file": "a.xlsx"}));
    assert_eq!((job.kind.as_str(), job.result, job.error, job.finished_at), (common::KIND, None, None, None));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn some_jobs_are_had_in_one_question() -> Result<()> {
    let world = World::new("jobs_some").await?;
    let (one, other, _) = (world.job(1).await?, world.job(2).await?, world.job(3).await?);
    let found = get_all(&mut *world.pool.acquire().await?, &[one, other, Uuid::now_v7()]).await?;
    assert_eq!(found.len(), 2);
    assert_eq!(found.get(&other), Some(&world.get(other).await?));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_key_makes_one_job() -> Result<()> {
    let world = World::new("jobs_key").await?;
    let mut conn = world.pool.acquire().await?;
    let Creation::Created(first) = create(&mut conn, with_key("ana", "k1", "h1")).await? else {
        anyhow::bail!("the first job is new");
    };
    assert_eq!(create(&mut conn, with_key("ana", "k1", "h1")).await?, Creation::Existing(first));
    assert!(matches!(create(&mut conn, with_key("eva", "k1", "h1")).await?, Creation::Created(_)));
    assert!(matches!(create(&mut conn, with_key("ana", "k2", "h1")).await?, Creation::Created(_)));
    let reused = create(&mut conn, with_key("ana", "k1", "another")).await;
    assert!(matches!(&reused, Err(Error::KeyReused(key)) if key == "k1"), "{reused:?}");
    // Jobs without a key are never the same.
    assert!(matches!(create(&mut conn, new_job()).await?, Creation::Created(_)));
    assert!(matches!(create(&mut conn, new_job()).await?, Creation::Created(_)));
    assert_eq!(world.count("SELECT count(*) FROM jobs").await?, 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_requests_at_once_the_second_gets_the_firsts_job() -> Result<()> {
    let world = World::new("jobs_key_race").await?;
    for first_commits in [true, false] {
        let key = format!("key {first_commits}");
        let mut first = world.pool.begin().await?;
        let Creation::Created(job) = create(&mut first, with_key("ana", &key, "h")).await? else {
            anyhow::bail!("the first job is new");
        };
        let second = tokio::spawn({
            let (pool, key) = (world.pool.clone(), key.clone());
            async move {
                let mut second = pool.begin().await?;
                let created = create(&mut second, with_key("ana", &key, "h")).await?;
                second.commit().await?;
                anyhow::Ok(created)
            }
        });
        stack::wait::until("the second waits for the first", common::PATIENCE, || async {
            world
                .count(
                    "SELECT count(*) FROM pg_stat_activity
                     WHERE usename = current_user AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO jobs%'",
                )
                .await
                .is_ok_and(|waiting| waiting == 1)
        })
        .await?;
        if first_commits {
            first.commit().await?;
            assert_eq!(second.await??, Creation::Existing(job));
        } else {
            first.rollback().await?;
            assert!(matches!(second.await??, Creation::Created(_)));
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM jobs").await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_wish_is_noted_once_and_an_ended_job_stays_as_it_is() -> Result<()> {
    let world = World::new("jobs_wish").await?;
    let id = world.job(3).await?;
    let mut conn = world.pool.acquire().await?;
    let wished = request_cancel(&mut conn, id).await?.context("no such job")?;
    assert_eq!((wished.state, wished.version), (State::Pending, 2));
    assert!(wished.cancel_requested_at.is_some());
    assert_eq!(request_cancel(&mut conn, id).await?, Some(wished), "a second request changes nothing");
    assert_eq!(request_cancel(&mut conn, Uuid::now_v7()).await?, None);

    let (_, lease) = world.hold(id, "a").await?;
    let ended = jobs::cancelled(&mut conn, &lease).await?;
    assert_eq!(ended.state, State::Cancelled);
    assert_eq!(request_cancel(&mut conn, id).await?, Some(ended));

    let done = world.job(3).await?;
    let (_, lease) = world.hold(done, "a").await?;
    let ended = jobs::complete(&mut conn, &lease, &json!({})).await?;
    assert_eq!(request_cancel(&mut conn, done).await?, Some(ended));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_can_start_again() -> Result<()> {
    let world = World::new("jobs_reopen").await?;
    let id = world.job(1).await?;
    let mut conn = world.pool.acquire().await?;
    assert_eq!(reopen(&mut conn, id).await?, None, "it has not failed");
    let (_, lease) = world.hold(id, "a").await?;
    jobs::fail(&mut conn, &lease, "the disk was full").await?;
    let reopened = reopen(&mut conn, id).await?.context("it has failed")?;
    assert_eq!((reopened.state, reopened.attempts, reopened.error), (State::Pending, 0, None));
    world.hold(id, "b").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_newest_first_in_pages() -> Result<()> {
    let world = World::new("jobs_list").await?;
    let mut mine = BTreeSet::new();
    for n in 0..23 {
        let mut conn = world.pool.acquire().await?;
        let user = if n % 2 == 0 { "ana" } else { "eva" };
        let Creation::Created(job) =
            create(&mut conn, NewJob { user: Some(user.into()), ..new_job() }).await?
        else {
            anyhow::bail!("the job is new");
        };
        if user == "ana" {
            mine.insert(job.id);
        }
    }
    let filter = Filter { user: Some("ana".into()), ..Filter::default() };
    let (mut seen, mut page) = (Vec::new(), Page { after: None, size: 5 });
    loop {
        let got = list(&world.pool, &filter, &page).await?;
        assert!(got.items.len() <= 5);
        seen.extend(got.items);
        match got.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert!(seen.is_sorted_by(|a, b| (a.created_at, a.id) > (b.created_at, b.id)));
    assert_eq!(seen.iter().map(|job| job.id).collect::<BTreeSet<_>>(), mine);
    let running = Filter { state: Some(State::Running), ..Filter::default() };
    assert_eq!(list(&world.pool, &running, &Page::default()).await?.items, []);
    world.hold(seen[3].id, "a").await?;
    assert_eq!(list(&world.pool, &running, &Page::default()).await?.items[0].id, seen[3].id);
    let other = Filter { kind: Some("another".into()), ..Filter::default() };
    assert_eq!(list(&world.pool, &other, &Page::default()).await?.items, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_sees_stale_leases_and_wrong_sums() -> Result<()> {
    let world = World::new("jobs_doctor").await?;
    let (stale, wrong) = (world.job(3).await?, world.job(3).await?);
    world.hold(stale, "a").await?;
    world.hold(wrong, "a").await?;
    assert_eq!(jobs::doctor(&world.pool).await?, Vec::<String>::new());
    world.run("UPDATE jobs SET lease_until = now() - interval '1 hour' WHERE id = $1", stale).await?;
    world.run("UPDATE jobs SET processed = 10, successful = 8, failed = 1 WHERE id = $1", wrong).await?;
    sqlx::query("UPDATE jobs SET next_run_at = now() - interval '1 hour' WHERE id = $1")
        .bind(world.job(3).await?)
        .execute(&world.pool)
        .await?;
    let findings = jobs::doctor(&world.pool).await?;
    assert_eq!(findings.len(), 3, "{findings:?}");
    assert!(findings[0].contains(&stale.to_string()) && findings[0].contains("lease"), "{findings:?}");
    assert!(findings[1].contains("has been due"), "{findings:?}");
    assert!(findings[2].contains("10 processed, but 8 successful and 1 failed"), "{findings:?}");
    Ok(())
}
