//! A provider that says that there is too much now: its sender waits, longer each time, and nothing else is given up for it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
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
    providers::messaging::{Outcome, Refusal, Submission, Verdict},
    singles::{Asked, Day, Message},
    storage::senders,
};
use tokio_util::sync::CancellationToken;

use crate::world::{LIMIT, SENDER, World};

const OTHER: &str = "+525550003333";

/// As Telnyx says that the sender's queue is full; without a code something on the way says it.
fn later(code: Option<u32>, pause: Duration) -> Submission {
    let verdict = Verdict {
        outcome: Outcome::Later,
        code,
        reason: "La cola del remitente en el proveedor está llena.".to_owned(),
        suppresses: false,
        landline: false,
        billed: false,
        repeatable: true,
    };
    Submission::NotAccepted(Refusal { verdict, pause: Some(pause) })
}

const FULL: Option<u32> = Some(40_318);
/// As if the sender's time had come.
const FREE: &str = "update sms_senders set held_until = null; update slices set due_at = now()";

#[tokio::test]
async fn a_throttle_burns_no_message() -> Result<()> {
    let world = World::new("throttle").await?;
    world.contacts(30).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.refuse(Some(later(FULL, Duration::from_millis(10))));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        world.round().await?;
        world.send().await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pending = world.in_state(&campaign, MessageState::Pending.code()).await?;
    ensure!(pending == 30, "{pending} of 30 are still to be sent");
    // After one second, after two more, and not after the next four.
    let asked = world.provider.asked().len();
    ensure!(asked <= 3 * 30, "{asked} requests for 30 messages");
    let waits =
        async || anyhow::Ok(world.campaign(campaign.id).await?.waiting.as_deref() == Some("proveedor"));
    world.until("it should say what it waits for", waits).await?;
    world.provider.refuse(None);
    world.execute(FREE).await?;
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 30);
    world.is_sound().await
}

#[tokio::test]
async fn a_sender_that_is_full_is_left_alone_and_the_other_goes_on() -> Result<()> {
    the_other_goes_on("onefull", FULL).await
}

#[tokio::test]
async fn what_something_on_the_way_says_of_one_sender_puts_nothing_else_off() -> Result<()> {
    the_other_goes_on("onthrottled", None).await
}

async fn the_other_goes_on(label: &str, code: Option<u32>) -> Result<()> {
    let world = World::new(label).await?;
    let values = senders::SenderValues {
        address: OTHER.to_owned(),
        provider: ProviderName::Telnyx,
        kind: SenderKind::LongCode,
        per_second: 5_000.0,
        price: Some((5_100, "USD".to_owned())),
        enabled: true,
    };
    senders::put(&mut *world.pool.acquire().await?, &values, "test").await?;
    world.contacts(60).await?;
    let plan = World::plan(|plan| plan["senders"] = json!([{ "address": SENDER }, { "address": OTHER }]));
    let campaign = world.started(Kind::Cobranza, plan).await?;
    world.provider.answer_next([later(code, Duration::from_secs(60))]);
    let ended = world.finish(campaign.id).await?;
    ensure!(world.in_state(&ended, MessageState::Accepted.code()).await? == 60);
    let held = "select count(*) from sms_senders where held_until > now() + interval '40 seconds'";
    ensure!(world.count(held).await? == 1);
    world.is_sound().await
}

#[tokio::test]
async fn a_message_that_expires_is_not_given_up_before() -> Result<()> {
    let world = World::new("fullsingle").await?;
    let to = Phone::from_e164("+526121004799").context("a phone")?;
    let message =
        Message { to, text: "Hola", sender: Some(SENDER), expires_at: Utc::now() + TimeDelta::hours(1) };
    let asked = Asked { actor: "ana", key: None, hash: None, correlation: None };
    let mut transaction = world.pool.begin().await?;
    let mut day = Day::open(&mut transaction, &world.settings, Utc::now()).await?;
    day.add(&mut transaction, &world.settings, &message, asked).await?;
    transaction.commit().await?;
    world.provider.refuse(Some(later(FULL, Duration::from_millis(1))));
    let step = async || {
        world.send_of(SINGLE).await?;
        world.execute(FREE).await?;
        world.round().await
    };
    let began = Instant::now();
    while world.count("select attempt - unasked from messages").await? < 25 {
        ensure!(began.elapsed() < LIMIT, "it is not asked again");
        step().await?;
    }
    ensure!(world.count("select count(*) from messages where state = 0").await? == 1);
    world.provider.refuse(None);
    while world.provider.accepted().is_empty() {
        ensure!(began.elapsed() < LIMIT, "it is not sent");
        step().await?;
    }
    world.is_sound().await
}

/// The job has left its slice when the answers come: first that the sender is to be left alone, then the others.
#[tokio::test]
async fn a_late_answer_leaves_the_pause_that_was_asked_for() -> Result<()> {
    let world = World::new("latepause").await?;
    world.contacts(20).await?;
    // All in one slice.
    world.execute("update contacts set state_code = 'SON'").await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.answer_after(Duration::from_secs(2));
    world.provider.answer_next([later(None, Duration::from_secs(60))]);
    world.round().await?;
    let (runner, work, token) = (Runner::new(world.pool.clone()), world.sender(), CancellationToken::new());
    for id in world.waiting("sms.slices").await? {
        runner.run(id, &token, &work).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    work.under_way.close();
    tokio::time::timeout(LIMIT, work.under_way.wait()).await?;
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 19);
    let held = "select count(*) from sms_senders where held_until > now() + interval '30 seconds'";
    ensure!(world.count(held).await? == 1);
    world.execute("update slices set due_at = now()").await?;
    world.round().await?;
    ensure!(world.send().await? == 0, "it goes into the same refusal again");
    ensure!(world.campaign(campaign.id).await?.waiting.as_deref() == Some("proveedor"));
    world.provider.answer_after(Duration::ZERO);
    world.execute(FREE).await?;
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 20);
    world.is_sound().await
}
