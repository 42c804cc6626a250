//! The inbox against a real PostgreSQL.

mod common;

use std::time::Duration;

use anyhow::Result;
use common::World;
use outbox::inbox;
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
