//! Who is at work.

mod common;

use anyhow::Result;
use common::{PATIENCE, World};
use contracts::queues::CATALOG_IMPORTS;
use jobs::{
    Activities,
    workers::{self, Announcer},
};
use sea_orm::sqlx;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_listed_while_it_lives() -> Result<()> {
    let world = World::new("workers").await?;
    sqlx::query(
        "INSERT INTO workers (id, service, host, pid, version, queues, working, seen_at) VALUES
         (gen_random_uuid(), 'catalog', 'dead', 1, '1', '{}', '[]', now() - interval '2 minutes'),
         (gen_random_uuid(), 'catalog', 'long dead', 1, '1', '{}', '[]', now() - interval '2 hours')",
    )
    .execute(&world.pool)
    .await?;
    let (activities, shutdown, job) = (Activities::default(), CancellationToken::new(), Uuid::now_v7());
    let _guard = activities.begin("catalog.imports", job);
    let announcer =
        Announcer::new(world.pool.clone(), "catalog", "1.2.3", &[&CATALOG_IMPORTS], activities.clone());
    let running = tokio::spawn(announcer.run(shutdown.clone()));
    stack::wait::until("the worker is announced", PATIENCE, || async {
        workers::list(&world.pool).await.is_ok_and(|workers| !workers.is_empty())
    })
    .await?;
    let workers = workers::list(&world.pool).await?;
    assert_eq!(workers.len(), 1, "{workers:?}");
    let worker = &workers[0];
    assert_eq!((worker.service.as_str(), worker.version.as_str()), ("catalog", "1.2.3"));
    assert_eq!(worker.pid.unsigned_abs(), std::process::id());
    assert_eq!(worker.queues, ["catalog.imports"]);
    assert_eq!((worker.working.len(), worker.working[0].id), (1, job));
    stack::wait::until("the long dead are removed", PATIENCE, || async {
        world.count("SELECT count(*) FROM workers").await.is_ok_and(|count| count == 2)
    })
    .await?;
    shutdown.cancel();
    running.await?;
    assert_eq!(workers::list(&world.pool).await?, []);
    Ok(())
}
