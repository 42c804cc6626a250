//! Campaigns that go wrong stop by themselves.

use anyhow::{Result, ensure};
use serde_json::json;
use sms_dispatch::{
    domain::{
        campaign::{Action, Kind, State},
        message_state::MessageState,
    },
    watch::{Course, look},
};

use crate::world::World;

#[tokio::test]
async fn a_campaign_pauses_by_the_last_outcomes_and_a_resume_begins_again() -> Result<()> {
    let world = World::new("autopause").await?;
    world.contacts(3).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    // Sums as many messages would leave them.
    let (number, all) = (campaign.number, &world);
    let ended = async |delivered: i64, failed: i64| {
        all.execute(&format!(
            "insert into campaign_deltas (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros)
             values ({number}, '', date_trunc('hour', now()), 5, '', 0, {delivered}, 0, 0),
                    ({number}, '', date_trunc('hour', now()), 6, '', 0, {failed}, 0, 0)"
        ))
        .await
    };
    ensure!(look(&world.pool, &campaign, 30).await? == Course::On(None));
    ended(1_000, 0).await?;
    ensure!(look(&world.pool, &campaign, 30).await? == Course::On(None));
    ended(400, 100).await?;
    ensure!(look(&world.pool, &campaign, 30).await? == Course::On(None), "20 % are not above 30");
    ended(200, 300).await?;
    ensure!(look(&world.pool, &campaign, 30).await? == Course::Paused);
    let paused = world.campaign(campaign.id).await?;
    ensure!(paused.state == State::Paused, "{paused:?}");
    let reason = paused.reason.clone().unwrap_or_default();
    ensure!(reason.contains("300 de los últimos 500"), "{reason}");
    let resumed = world.act(campaign.id, Action::Resume).await?;
    ended(0, 499).await?;
    ensure!(look(&world.pool, &resumed, 30).await? == Course::On(None), "only what ends from now on counts");
    ended(0, 499).await?;
    ensure!(look(&world.pool, &resumed, 30).await? == Course::On(None));
    ended(0, 10).await?;
    ensure!(look(&world.pool, &resumed, 30).await? == Course::Paused);
    Ok(())
}

#[tokio::test]
async fn with_a_ramp_the_first_messages_have_their_reports_before_the_rest_goes() -> Result<()> {
    let world = World::new("ramp").await?;
    world.contacts(300).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|plan| plan["ramp"] = json!(50))).await?;
    world.sends_and_stops(&campaign, MessageState::Accepted, 50).await?;
    ensure!(world.provider.accepted().len() == 50, "{}", world.provider.accepted().len());
    ensure!(world.campaign(campaign.id).await?.waiting.as_deref() == Some("rampa"));
    reports(&world, "delivered").await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Completed && world.provider.accepted().len() == 300, "{ended:?}");
    ensure!(ended.ramped_at.is_some());
    world.is_sound().await
}

#[tokio::test]
async fn a_ramp_that_fails_pauses_before_the_rest_goes() -> Result<()> {
    let world = World::new("badramp").await?;
    world.contacts(300).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|plan| plan["ramp"] = json!(50))).await?;
    world.sends_and_stops(&campaign, MessageState::Accepted, 50).await?;
    reports(&world, "delivery_failed").await?;
    world.round().await?;
    let paused = world.campaign(campaign.id).await?;
    ensure!(paused.state == State::Paused && paused.waiting.as_deref() == Some("rampa"), "{paused:?}");
    ensure!(world.in_state(&campaign, MessageState::Failed.code()).await? == 50);
    ensure!(world.send().await? == 0 && world.provider.accepted().len() == 50);
    world.is_sound().await
}

#[tokio::test]
async fn a_ramp_of_which_nobody_knows_anything_pauses_too() -> Result<()> {
    let world = World::new("darkramp").await?;
    world.contacts(120).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|plan| plan["ramp"] = json!(5))).await?;
    world.provider.lose_answers(5);
    let stops = async || anyhow::Ok(world.campaign(campaign.id).await?.state == State::Paused);
    world.sends_until("it should pause", stops).await?;
    ensure!(world.send().await? == 0, "the rest is with workers");
    let paused = world.campaign(campaign.id).await?;
    ensure!(paused.state == State::Paused && paused.ramped_at.is_none(), "{paused:?}");
    ensure!(world.in_state(&campaign, MessageState::Unknown.code()).await? == 5);
    ensure!(world.provider.accepted().values().flatten().count() == 5, "the rest went into the outage");
    world.is_sound().await
}

/// What a provider says of all that it took.
async fn reports(world: &World, status: &str) -> Result<()> {
    for message in world.provider.accepted().values().flatten() {
        let phone = message.to.to_string();
        world.reported(message.id, message.attempt, &phone, status, ("0.0051", "USD")).await?;
    }
    sms_dispatch::reports::Reports::new(world.pool.clone()).statuses().await?;
    Ok(())
}
