//! When messages go: at the rate, and only while somebody feeds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sms_dispatch::{
    domain::campaign::Kind,
    feeder::Feeder,
    turn::{FEEDER, Turn},
};
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// As by SIGSTOP, or when a machine is gone without a word: its connection stays, and nobody uses it.
#[tokio::test]
async fn who_feeds_and_says_nothing_more_is_followed_by_another() -> Result<()> {
    let world = World::new("stoppedfeeder").await?;
    world.contacts(3).await?;
    world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let stopped = Turn::try_take_lapsing(&world.pool, FEEDER, Duration::from_secs(1)).await?;
    let mut stopped = stopped.context("nobody feeds")?;
    let shutdown = CancellationToken::new();
    let feeder = Feeder::new(world.pool.clone(), Arc::clone(&world.settings));
    let feeds = tokio::spawn(feeder.run(shutdown.clone()));
    let began = Instant::now();
    while world.count("select count(*) from slices where state = 'fed'").await? == 0 {
        ensure!(began.elapsed() < Duration::from_secs(20), "nobody feeds");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(stopped.holds().await.is_err(), "it would go on feeding when it wakes");
    shutdown.cancel();
    feeds.await?;
    Ok(())
}
