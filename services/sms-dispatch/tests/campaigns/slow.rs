//! A sender whose answers come late keeps its own messages waiting, and nobody else's.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use jobs::Runner;
use serde_json::json;
use sms_dispatch::{
    domain::{
        Phone,
        campaign::Kind,
        message_state::MessageState,
        sender::{ProviderName, SenderKind},
    },
    jobs::send_slice::SINGLE,
    singles::{Asked, Day, Message},
    storage::senders,
};
use tokio_util::sync::CancellationToken;

use crate::world::{SENDER, World};

const SLOW: &str = "+525550002222";
const LATE: Duration = Duration::from_secs(5);

async fn slow_sender(world: &World) -> Result<()> {
    let values = senders::SenderValues {
        address: SLOW.to_owned(),
        provider: ProviderName::Telnyx,
        kind: SenderKind::LongCode,
        per_second: 20.0,
        price: Some((5_100, "USD".to_owned())),
        enabled: true,
    };
    senders::put(&mut *world.pool.acquire().await?, &values, "test").await?;
    world.provider.answer_sender_after(SLOW, LATE);
    Ok(())
}

#[tokio::test]
async fn a_campaign_with_a_slow_sender_goes_on_at_the_rate_of_the_other() -> Result<()> {
    let world = World::new("slowsender").await?;
    slow_sender(&world).await?;
    world.contacts(600).await?;
    let plan = World::plan(|plan| plan["senders"] = json!([{ "address": SENDER }, { "address": SLOW }]));
    let campaign = world.started(Kind::Cobranza, plan).await?;
    let began = Instant::now();
    world.until("all should go out", async || anyhow::Ok(world.provider.accepted().len() == 600)).await?;
    // Half of each fifty that are under way would wait for the slow sender: a minute.
    ensure!(began.elapsed() < 6 * LATE, "it took {:?}", began.elapsed());
    let slow = world.provider.accepted().values().flatten().filter(|one| one.from.value == SLOW).count();
    ensure!((1..300).contains(&slow), "{slow} of 600 went out through the slow sender");
    let ended = world.finish(campaign.id).await?;
    ensure!(world.in_state(&ended, MessageState::Accepted.code()).await? == 600);
    world.is_sound().await
}

#[tokio::test]
async fn a_sender_with_a_low_rate_lets_the_others_go_at_theirs() -> Result<()> {
    let world = World::new("lowrate").await?;
    slow_sender(&world).await?;
    world.provider.answer_sender_after(SLOW, Duration::ZERO);
    world.execute(&format!("update sms_senders set per_second = 2 where address = '{SLOW}'")).await?;
    world.contacts(300).await?;
    let plan = World::plan(|plan| plan["senders"] = json!([{ "address": SENDER }, { "address": SLOW }]));
    let campaign = world.started(Kind::Cobranza, plan).await?;
    let began = Instant::now();
    world.finish(campaign.id).await?;
    // By itself it would send its half in more than a minute.
    ensure!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    let slow = world.provider.accepted().values().flatten().filter(|one| one.from.value == SLOW).count();
    ensure!((1..100).contains(&slow), "{slow} of 300 went out through the sender with the low rate");
    world.is_sound().await
}

#[tokio::test]
async fn single_messages_of_a_slow_sender_keep_no_other_waiting() -> Result<()> {
    let world = World::new("slowsingles").await?;
    slow_sender(&world).await?;
    let late = 6 * LATE;
    world.provider.answer_sender_after(SLOW, late);
    let take = async |phone: &str, sender: &str| {
        let to = Phone::from_e164(phone).context("a phone")?;
        let expires_at = Utc::now() + TimeDelta::hours(1);
        let message = Message { to, text: "Hola", sender: Some(sender), expires_at };
        let asked = Asked { actor: "ana", key: None, hash: None, correlation: None };
        let mut transaction = world.pool.begin().await?;
        let mut day = Day::open(&mut transaction, &world.settings, Utc::now()).await?;
        day.add(&mut transaction, &world.settings, &message, asked).await?;
        anyhow::Ok(transaction.commit().await?)
    };
    for n in 0..16 {
        take(&format!("+52612100{:04}", 4_000 + 7 * n), SLOW).await?;
    }
    take("+526121004799", SENDER).await?;
    // As many at once as a worker has places for them.
    let (runner, work) = (Runner::new(world.pool.clone()), world.sender());
    let (ids, token) = (world.waiting(SINGLE).await?, CancellationToken::new());
    let began = Instant::now();
    let run = futures::stream::iter(ids)
        .map(|id| {
            let (runner, work, token) = (&runner, &work, &token);
            async move { runner.run(id, token, work).await.map_err(|error| anyhow::anyhow!("{error}")) }
        })
        .buffer_unordered(world.settings.singles_at_once)
        .try_collect::<Vec<_>>();
    let quick = async {
        while !world.provider.accepted().contains_key("+526121004799") {
            ensure!(began.elapsed() < late, "it waits for the slow sender's answers");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    let (ran, quick) = tokio::join!(run, quick);
    quick?;
    ran?;
    Ok(())
}
