//! What a provider says of a sender, or of itself, closes it: by whichever way it says so, and once.

use anyhow::{Context as _, Result, ensure};
use sms_dispatch::{
    domain::{
        campaign::Kind,
        sender::{ProviderName, SenderKind},
    },
    reports::Reports,
    storage::{providers, senders},
};

use crate::world::{SENDER, World};

const COST: (&str, &str) = ("0.0051", "USD");
const AUDITED: &str =
    "select count(*) from contact_audit where action in ('sms_sender_closed', 'sms_provider_closed')";
const ENABLED: &str = "select count(*) from sms_senders where enabled";
const OPEN: &str = "select count(*) from sms_providers where closed_at is null";

/// The carrier says that the sender is not valid (40013), or the provider that the account sends no messages (40314).
#[tokio::test]
async fn a_report_closes_a_sender_once_and_says_nothing_of_what_was_opened_since() -> Result<()> {
    let world = World::new("closedsender").await?;
    world.contacts(4).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(campaign.id).await?;
    let reports = Reports::new(world.pool.clone());
    let messages = world.messages(&campaign).await?;
    let says = async |place: usize, code: u32| {
        let (id, phone) = messages.get(place).context("a message")?;
        // Twice, as providers do.
        for _ in 0..2 {
            world.reported_code(*id, 1, phone, "delivery_failed", Some(code), COST).await?;
        }
        reports.statuses().await.map(drop)
    };
    says(0, 40_008).await?;
    ensure!(world.count(ENABLED).await? == 1, "that one failed says nothing of the others");
    says(1, 40_013).await?;
    ensure!(world.count(ENABLED).await? == 0, "the sender is in use still");
    ensure!(world.count(AUDITED).await? == 1);
    says(1, 40_013).await?;
    ensure!(world.count(AUDITED).await? == 1, "it was closed before");

    // A person looked, and has it in use again: what is said of messages from before is no news.
    enable(&world).await?;
    says(1, 40_013).await?;
    says(2, 40_013).await?;
    ensure!(world.count(ENABLED).await? == 1, "a report on a message from before closed it again");
    let second = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(second.id).await?;
    let (id, phone) = world.messages(&second).await?.remove(0);
    world.reported_code(id, 1, &phone, "delivery_failed", Some(40_013), COST).await?;
    reports.statuses().await?;
    ensure!(world.count(ENABLED).await? == 0 && world.count(AUDITED).await? == 2);
    world.is_sound().await
}

/// A report is the first word of a message whose answer was lost: it is as old as its request all the same.
#[tokio::test]
async fn a_report_on_an_unknown_from_before_closes_nothing_that_was_opened_since() -> Result<()> {
    let world = World::new("closedunknown").await?;
    world.contacts(2).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.lose_answers(2);
    world.finish(campaign.id).await?;
    enable(&world).await?;
    let (id, phone) = world.messages(&campaign).await?.remove(0);
    world.reported_code(id, 1, &phone, "delivery_failed", Some(40_013), COST).await?;
    Reports::new(world.pool.clone()).statuses().await?;
    ensure!(world.count(ENABLED).await? == 1, "what a person opened is closed by what was before");
    world.is_sound().await
}

#[tokio::test]
async fn a_report_closes_a_provider_once_and_says_nothing_of_what_was_opened_since() -> Result<()> {
    let world = World::new("closedprovider").await?;
    world.contacts(3).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(campaign.id).await?;
    let reports = Reports::new(world.pool.clone());
    let messages = world.messages(&campaign).await?;
    let says = async |place: usize| {
        let (id, phone) = messages.get(place).context("a message")?;
        world.reported_code(*id, 1, phone, "sending_failed", Some(40_314), COST).await?;
        reports.statuses().await.map(drop)
    };
    says(0).await?;
    ensure!(world.count(OPEN).await? == 0, "the provider takes messages still");
    ensure!(world.count(AUDITED).await? == 1);
    says(1).await?;
    ensure!(world.count(AUDITED).await? == 1, "it was closed before");
    ensure!(world.count(ENABLED).await? == 1);
    providers::open(&mut *world.pool.acquire().await?, Some(ProviderName::Telnyx)).await?;
    says(2).await?;
    ensure!(world.count(OPEN).await? == 1, "a report on a message from before closed it again");
    world.is_sound().await
}

async fn enable(world: &World) -> Result<()> {
    let values = senders::SenderValues {
        address: SENDER.to_owned(),
        provider: ProviderName::Telnyx,
        kind: SenderKind::LongCode,
        per_second: 5_000.0,
        price: Some((5_100, "USD".to_owned())),
        enabled: true,
    };
    senders::put(&mut *world.pool.acquire().await?, &values, "test").await?;
    Ok(())
}
