//! The inbox against a real PostgreSQL.

mod common;

use std::time::Duration;

use anyhow::Result;
use common::World;
use outbox::{Retention, inbox};
use sea_orm::sqlx;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_new_once_for_each_consumer() -> Result<()> {
    let world = World::new("inbox_once").await?;
    let id = Uuid::now_v7();
    let mut conn = world.pool.acquire().await?;
    assert!(inbox::record(&mut conn, "reports", id).await?);
    assert!(!inbox::record(&mut conn, "reports", id).await?);
    assert!(inbox::record(&mut conn, "gateway", id).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_deliveries_waits_for_the_first() -> Result<()> {
    let world = World::new("inbox_race").await?;
    for first_commits in [true, false] {
        let id = Uuid::now_v7();
        let mut first = world.pool.begin().await?;
        assert!(inbox::record(&mut first, "reports", id).await?);
        let second = tokio::spawn({
            let pool = world.pool.clone();
            async move {
                let mut second = pool.begin().await?;
                let new = inbox::record(&mut second, "reports", id).await?;
                second.commit().await?;
                anyhow::Ok(new)
            }
        });
        world
            .until_count(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE usename = current_user AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO inbox%'",
                1,
            )
            .await?;
        if first_commits {
            first.commit().await?;
        } else {
            first.rollback().await?;
        }
        assert_eq!(second.await??, !first_commits);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn old_messages_are_forgotten() -> Result<()> {
    let world = World::new("inbox_prune").await?;
    sqlx::query(
        "INSERT INTO inbox (consumer, message_id, received_at)
         SELECT 'reports', gen_random_uuid(), now() - make_interval(hours => n) FROM generate_series(1, 12000) n",
    )
    .execute(&world.pool)
    .await?;
    let pruned = inbox::prune(&world.pool, Duration::from_secs(3600 * 1000 + 1800)).await?;
    assert_eq!(pruned, 11_000);
    assert_eq!(world.count("SELECT count(*) FROM inbox").await?, 1000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_may_be_replayed_are_remembered() -> Result<()> {
    let world = World::new("inbox_letters").await?;
    // More than a batch of those that stay stand before those that go.
    sqlx::raw_sql(
        "INSERT INTO inbox (consumer, message_id, received_at)
         SELECT 'reports', gen_random_uuid(), now() - interval '50 days' FROM generate_series(1, 6000);
         INSERT INTO dead_letters (id, queue, message_id, fingerprint, body, decodable, reason, error, attempts,
             failed_at, origin)
         SELECT gen_random_uuid(), 'a.work', message_id, message_id::text, '{}', true, 'failed', '', 1, now(), 'a.work'
         FROM inbox;
         INSERT INTO inbox (consumer, message_id, received_at)
         SELECT 'reports', gen_random_uuid(), now() - interval '40 days' FROM generate_series(1, 6000)",
    )
    .execute(&world.pool)
    .await?;
    let retention = Retention { resolved_letters: Duration::from_secs(3600), ..Retention::default() };
    assert_eq!(outbox::prune(&world.pool, retention).await?.inbox, 6000, "letters of these are open");

    let resolve = "UPDATE dead_letters SET state = $1, resolved_by = 'ana', resolved_at = now() - $2 * interval '1 day',
             replayed_at = CASE WHEN $1 = 'replayed' THEN now() - $2 * interval '1 day' END
         WHERE id = ANY (ARRAY(SELECT id FROM dead_letters WHERE state = 'open' LIMIT 2000))";
    for (state, days_ago) in [("replayed", 29.0), ("replayed", 31.0), ("discarded", 1.0)] {
        sqlx::query(resolve).bind(state).bind(days_ago).execute(&world.pool).await?;
    }
    let pruned = outbox::prune(&world.pool, retention).await?;
    assert_eq!(pruned.inbox, 4000, "what was replayed 29 days ago may still come again");
    assert_eq!(pruned.letters, 4000, "and its letters say so");
    assert_eq!(world.count("SELECT count(*) FROM inbox JOIN dead_letters USING (message_id)").await?, 2000);
    assert_eq!(world.count("SELECT count(*) FROM inbox").await?, 2000);
    let serving =
        "SELECT count(*) FROM pg_index WHERE indexrelid = 'dead_letters_message'::regclass AND indisvalid";
    assert_eq!(world.count(serving).await?, 1);
    Ok(())
}
