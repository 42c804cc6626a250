//! A provider that does not answer is left alone, and asked by one request whether it answers again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sms_dispatch::{
    domain::{campaign::Kind, message_state::MessageState, sender::ProviderName},
    providers::messaging::Submission,
    storage::providers::{self, SILENT},
};

use crate::world::{LIMIT, World};

const CLOSED: &str = "select count(*) from sms_providers where closed_at is not null and opens_at > now()";

#[tokio::test]
async fn a_run_of_requests_without_an_answer_closes_the_provider_however_small_the_batches_are() -> Result<()>
{
    let mut world = World::new("breakerrun").await?;
    Arc::make_mut(&mut world.settings).in_flight = 3;
    world.contacts(60).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let silence = || Some(Submission::Unknown { reason: "503".to_owned() });
    world.provider.refuse(silence());
    send_until(&world, async || anyhow::Ok(world.count(CLOSED).await? == 1)).await?;
    let unknown = world.in_state(&campaign, MessageState::Unknown.code()).await?;
    ensure!((8..40).contains(&unknown), "{unknown} requests without an answer");
    world.round().await?;
    ensure!(world.send().await? == 0, "nothing is fed");
    ensure!(world.campaign(campaign.id).await?.waiting.as_deref() == Some("proveedor"));

    // Its time has come: one request asks, and it is closed again.
    let opens = "update sms_providers set opens_at = now() - interval '1 second'";
    world.execute(opens).await?;
    let asked = world.provider.asked().len();
    send_until(&world, async || anyhow::Ok(world.provider.asked().len() > asked)).await?;
    ensure!(world.provider.asked().len() == asked + 1, "{} were made", world.provider.asked().len() - asked);
    ensure!(world.count(CLOSED).await? == 1);

    // It answers again: the rest goes, and each once.
    world.provider.refuse(None);
    world.execute(opens).await?;
    world.finish(campaign.id).await?;
    let accepted = world.in_state(&campaign, MessageState::Accepted.code()).await?;
    ensure!(accepted == 60 - unknown - 1, "{accepted} accepted, {unknown} unknown before");
    world.is_sound().await
}

/// Feeds two workers until that is so: a request that would begin too late is not made, and has another turn.
async fn send_until(world: &World, so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    loop {
        world.round().await?;
        world.send_with(2).await?;
        if so().await? {
            return Ok(());
        }
        ensure!(began.elapsed() < LIMIT, "{} requests, and it goes on", world.provider.asked().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn single_failures_among_answers_close_nobody() -> Result<()> {
    let mut world = World::new("breakersome").await?;
    Arc::make_mut(&mut world.settings).in_flight = 3;
    world.contacts(60).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.lose_answers(6);
    world.finish(campaign.id).await?;
    ensure!(world.in_state(&campaign, MessageState::Unknown.code()).await? == 6);
    ensure!(world.count("select count(*) from sms_providers where closed_at is not null").await? == 0);
    world.is_sound().await
}

/// Who was stopped for longer than its request lasts wakes when another one asks.
#[tokio::test]
async fn the_request_that_asks_again_is_given_back_by_nobody_but_who_has_it() -> Result<()> {
    let world = World::new("probe").await?;
    world.execute(&format!("update sms_providers set silent = {SILENT}")).await?;
    let mut conn = world.pool.acquire().await?;
    let name = ProviderName::Telnyx;
    let first = providers::take_probe(&mut conn, name, 0.02).await?.context("nobody asks")?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = providers::take_probe(&mut conn, name, 30.0).await?.context("the first has lapsed")?;
    providers::give_probe_back(&mut conn, name, first).await?;
    providers::count_answers(&mut conn, name, (0, 1), Some(first)).await?;
    ensure!(providers::take_probe(&mut conn, name, 30.0).await?.is_none(), "two ask at a time");
    providers::give_probe_back(&mut conn, name, second).await?;
    ensure!(providers::take_probe(&mut conn, name, 30.0).await?.is_some());
    Ok(())
}
