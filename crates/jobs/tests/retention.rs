//! Which ended jobs are deleted, and which stay.

mod common;

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use common::{KIND, World};
use jobs::delete_ended;
use sea_orm::sqlx;

const END: &str = "UPDATE jobs SET state = 'completed', owner = NULL, lease_until = NULL,
    finished_at = now() - interval '31 days' WHERE id = $1";

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_long_ago_goes_unless_something_refers_to_it() -> Result<()> {
    let world = World::new("jobs_retention").await?;
    let (old, named, young) = (world.job(3).await?, world.job(3).await?, world.job(3).await?);
    let (waits, other) = (world.job(3).await?, world.job(3).await?);
    for id in [old, named, young, other] {
        world.run(END, id).await?;
    }
    world.run("UPDATE jobs SET finished_at = now() - interval '29 days' WHERE id = $1", young).await?;
    world.run("UPDATE jobs SET created_at = now() - interval '31 days' WHERE id = $1", waits).await?;
    world.run("UPDATE jobs SET kind = 'test.others' WHERE id = $1", other).await?;
    execute(&world, "CREATE TABLE files (job_id uuid REFERENCES jobs)").await?;
    world.run("INSERT INTO files VALUES ($1), (NULL)", named).await?;
    // The key of a request goes with its job.
    world
        .run("INSERT INTO job_keys (created_by, idempotency_key, job_id) VALUES ('ana', 'k', $1)", old)
        .await?;

    let before = Utc::now() - TimeDelta::days(30);
    let delete =
        async || delete_ended(&world.pool, &[KIND, "test.absent"], before, &[("files", "job_id")]).await;
    // Another process is at it.
    let mut turn = world.pool.begin().await?;
    sqlx::query("SELECT FROM jobs WHERE id = $1 FOR UPDATE").bind(old).execute(&mut *turn).await?;
    assert_eq!(delete().await?, 0, "what somebody holds is left to them");
    turn.rollback().await?;
    assert_eq!(delete().await?, 1);
    assert_eq!(delete().await?, 0, "once");
    for id in [named, young, waits, other] {
        world.get(id).await?;
    }
    assert!(world.get(old).await.is_err(), "it is still there");
    assert_eq!(world.count("SELECT count(*) FROM job_keys").await?, 0);

    // Nothing refers to it any more.
    execute(&world, "DELETE FROM files").await?;
    assert_eq!(delete().await?, 1);
    Ok(())
}

async fn execute(world: &World, statement: &'static str) -> Result<()> {
    sqlx::query(statement).execute(&world.pool).await?;
    Ok(())
}
