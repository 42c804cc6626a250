mod common;
use anyhow::Result;
use common::{World, nudge};
use outbox::{Meta, Relay};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread")]
async fn speed() -> Result<()> {
    let world = World::new("speed").await?;
    let broker = world.broker().await?;
    for _ in 0..40 {
        let mut t = world.pool.begin().await?;
        outbox::publish_all(
            &mut t,
            "test",
            (0..500).map(|n| (nudge(&n.to_string()), Meta::default())).collect(),
        )
        .await?;
        t.commit().await?;
    }
    let start = Instant::now();
    tokio::spawn(Relay::new(world.pool.clone(), broker.clone()).run(world.shutdown.clone()));
    world.until_count("SELECT count(*) FROM outbox", 0).await?;
    eprintln!("20000 rows in {:?}: {:.0}/s", start.elapsed(), 20000.0 / start.elapsed().as_secs_f64());
    Ok(())
}
