//! What those who watch are told of campaigns.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use contracts::live::{FIELD, LiveEvent, STREAM, WATCHED};
use deadpool_redis::redis::{Cmd, FromRedisValue, cmd};
use sms_dispatch::{
    again::{Order, Which, decide},
    domain::{
        campaign::{Action, Kind, State},
        message_state::MessageState,
    },
    live::Live,
    providers::messaging::{Outcome, Refusal, Submission, Verdict},
};

use crate::{
    hours::{hours_of_nobody, within},
    world::World,
};

/// A replica's part in telling.
fn teller(world: &World) -> Live {
    Live::new(world.pool.clone(), &world.redis, Arc::clone(&world.settings))
}

/// Asks Redis as patiently as need be: the pool gives a command up after a moment.
async fn ask<T: FromRedisValue>(world: &World, command: &Cmd) -> Result<T> {
    let mut connection = world.redis.dedicated().await?;
    Ok(command.query_async(&mut connection).await?)
}

/// What watchers were told, in order.
async fn told(world: &World) -> Result<Vec<LiveEvent>> {
    let mut range = cmd("XRANGE");
    range.arg(world.redis.key(STREAM)).arg("-").arg("+");
    let entries: Vec<(String, Vec<String>)> = ask(world, &range).await?;
    let event = |fields: Vec<String>| {
        let place = fields.iter().position(|field| field == FIELD).context("an event")?;
        Ok(serde_json::from_str(fields.get(place + 1).context("its JSON")?)?)
    };
    entries.into_iter().map(|(_, fields)| event(fields)).collect()
}

async fn watch(world: &World, watched: bool) -> Result<()> {
    let mut command = cmd(if watched { "SET" } else { "DEL" });
    command.arg(world.redis.key(WATCHED));
    if watched {
        command.arg(1);
        let _done: String = ask(world, &command).await?;
    } else {
        let _gone: i64 = ask(world, &command).await?;
    }
    Ok(())
}

#[tokio::test]
async fn progress_is_told_by_one_of_all_and_only_what_has_changed() -> Result<()> {
    let world = World::new("livetold").await?;
    world.contacts(30).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let (one, two) = (teller(&world), teller(&world));
    let (mut ones, mut twos) = (HashMap::new(), HashMap::new());
    one.round(&mut ones).await?;
    ensure!(told(&world).await?.is_empty() && ones.is_empty(), "nobody watches");

    watch(&world, true).await?;
    for _ in 0..2 {
        one.round(&mut ones).await?;
        two.round(&mut twos).await?;
    }
    let first = told(&world).await?;
    ensure!(first.len() == 1 && twos.is_empty(), "one tells, and once: {first:?}");
    let LiveEvent { kind, service, proveedor_id, data } = &first[0];
    ensure!(kind == "job.progress" && service == "sms-dispatch" && proveedor_id.is_none(), "{first:?}");
    ensure!(data["id"] == campaign.id.to_string() && data["state"] == "running", "{data}");
    ensure!(data["recipients"] == 30 && data["messages"]["pending"] == 30, "{data}");

    // Whoever does it: the teller only looks.
    let sent = async || anyhow::Ok(world.in_state(&campaign, MessageState::Accepted.code()).await? == 30);
    world.until("all should be sent", sent).await?;
    one.round(&mut ones).await?;
    let second = told(&world).await?;
    let data = &second.last().context("an event")?.data;
    ensure!(second.len() == 2 && data["messages"]["accepted"] == 30, "{second:?}");
    ensure!(data["parts"] == 30 && data["cost_micros"] == 30 * 5_100, "{data}");

    // The first is gone, and its turn lapses.
    let _gone: i64 = ask(&world, cmd("DEL").arg(world.redis.key("live:campaigns"))).await?;
    two.round(&mut twos).await?;
    one.round(&mut ones).await?;
    ensure!(told(&world).await?.len() == 3 && ones.is_empty() && twos.len() == 1, "{ones:?} {twos:?}");
    world.finish(campaign.id).await?;
    two.round(&mut twos).await?;
    let last = told(&world).await?.pop().context("an event")?;
    ensure!(last.data["state"] == "completed", "{last:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_campaign_waits_for_is_told_with_when_that_ends() -> Result<()> {
    let mut world = World::new("livewaits").await?;
    let any_time = Arc::clone(&world.settings);
    world.contacts(30).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    watch(&world, true).await?;
    let waits = async |world: &World| {
        // Who has just begun to tell has told nothing of it.
        let _gone: i64 = ask(world, cmd("DEL").arg(world.redis.key("live:campaigns"))).await?;
        teller(world).round(&mut HashMap::new()).await?;
        let last = told(world).await?.pop().context("an event")?;
        ensure!(last.data["id"] == campaign.id.to_string(), "{last:?}");
        anyhow::Ok(last.data["waits"].clone())
    };
    world.settings = within(&any_time, hours_of_nobody(Utc::now())?);
    let told = waits(&world).await?;
    ensure!(told[0]["reason"] == "horario" && told[0]["messages_at_most"] == 30, "{told}");
    let opens: DateTime<Utc> = told[0]["next_at"].as_str().context("when they begin")?.parse()?;
    ensure!(opens > Utc::now() && told[1].is_null(), "{told}");

    world.settings = any_time;
    let told = waits(&world).await?;
    ensure!(told[0]["reason"] == "ritmo" && told[1].is_null(), "{told}");
    world.execute("update sms_providers set closed_at = now(), closed_reason = 'Sin fondos'").await?;
    world.round().await?;
    let told = waits(&world).await?;
    ensure!(told[0]["reason"] == "proveedor" && told[0]["messages_at_most"] == 30, "{told}");
    Ok(())
}

#[tokio::test]
async fn the_end_of_a_campaign_is_told_and_nothing_after_it() -> Result<()> {
    let world = World::new("liveend").await?;
    world.contacts(5).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let (one, mut ones) = (teller(&world), HashMap::new());
    watch(&world, true).await?;
    one.round(&mut ones).await?;
    let paused = world.act(campaign.id, Action::Pause).await?;
    one.round(&mut ones).await?;
    let data = told(&world).await?.pop().context("an event")?.data;
    ensure!(data["state"] == "paused" && paused.state == State::Paused, "{data}");
    world.act(campaign.id, Action::Resume).await?;
    world.finish(campaign.id).await?;
    one.round(&mut ones).await?;
    let events = told(&world).await?;
    let data = &events.last().context("an event")?.data;
    ensure!(data["state"] == "completed" && data["messages"]["accepted"] == 5, "{data}");
    // Reports still come, and nobody is told any more.
    world.provider.keep_records();
    one.round(&mut ones).await?;
    ensure!(ones.is_empty() && told(&world).await?.len() == events.len(), "{ones:?}");
    watch(&world, false).await?;
    one.round(&mut ones).await?;
    ensure!(told(&world).await?.len() == events.len());
    Ok(())
}

#[tokio::test]
async fn a_pause_a_resumption_and_another_attempt_of_what_was_complete_are_told() -> Result<()> {
    let world = World::new("livefacts").await?;
    world.contacts(5).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let kinds = async |kind: &str| {
        world.count(&format!("select count(*) from outbox where kind = 'lote.sms.v1.{kind}'")).await
    };
    world.act(campaign.id, Action::Pause).await?;
    ensure!(kinds("CampaignPaused").await? == 1 && kinds("CampaignResumed").await? == 0);
    world.act(campaign.id, Action::Resume).await?;
    ensure!(kinds("CampaignPaused").await? == 1 && kinds("CampaignResumed").await? == 1);
    let verdict = Verdict {
        outcome: Outcome::Failed,
        code: Some(40_006),
        reason: "Motivo".to_owned(),
        suppresses: false,
        landline: false,
        billed: false,
        repeatable: true,
    };
    world.provider.answer_next([Submission::NotAccepted(Refusal { verdict, pause: None })]);
    let ended = world.finish(campaign.id).await?;
    ensure!(kinds("CampaignCompleted").await? == 1);
    let mut transaction = world.pool.begin().await?;
    let decided = decide(&mut transaction, &ended, Which::Failed, Order::Resend, 0, false, "ana").await?;
    transaction.commit().await?;
    ensure!(decided.messages == 1 && kinds("CampaignResumed").await? == 2, "{decided:?}");
    Ok(())
}
