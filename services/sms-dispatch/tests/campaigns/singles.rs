//! Single messages: in the same ledger as all others, before what waits in bulk.

use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use sms_dispatch::{
    domain::{
        Phone,
        campaign::{Action, Kind, State},
        message_id::MessageId,
        message_state::MessageState,
        sender::{ProviderName, SenderKind},
    },
    jobs::send_slice::SINGLE,
    singles::{Asked, Day, Message, NotTaken, keyed},
    storage::{campaigns::Campaign, ledger, providers, senders, singles},
};

use crate::world::World;

const PHONE: &str = "+526121004799";

fn asked(key: Option<&str>, hash: &str) -> Asked<'static> {
    Asked { actor: "ana", key: key.map(str::to_owned), hash: Some(hash.to_owned()), correlation: None }
}

fn message<'a>(text: &'a str, sender: Option<&'a str>) -> Message<'a> {
    let to = Phone::from_e164(PHONE).expect("a phone");
    Message { to, text, sender, expires_at: Utc::now() + TimeDelta::hours(1) }
}

async fn take(world: &World, message: &Message<'_>, asked: Asked<'_>) -> Result<MessageId, NotTaken> {
    let mut transaction = world.pool.begin().await?;
    let mut day = Day::open(&mut transaction, &world.settings, Utc::now()).await?;
    let id = day.add(&mut transaction, &world.settings, message, asked).await?;
    transaction.commit().await?;
    Ok(id)
}

async fn campaign(world: &World, id: MessageId) -> Result<Campaign> {
    let mut conn = world.pool.acquire().await?;
    let found = sms_dispatch::storage::campaigns::by_number(&mut conn, id.campaign).await?;
    found.context("the day's campaign")
}

async fn row(world: &World, id: MessageId) -> Result<ledger::Row> {
    ledger::get(&mut *world.pool.acquire().await?, id).await?.context("a message")
}

#[tokio::test]
async fn a_single_message_says_what_it_was_given_and_is_a_row_of_its_days_campaign() -> Result<()> {
    let world = World::new("single").await?;
    let text = "Código {nombre}: 123 456\nVence en 5 minutos";
    let id = take(&world, &message(text, None), asked(None, "1")).await?;
    ensure!(world.send_of(SINGLE).await? == 1);
    let sent = world.provider.accepted().remove(PHONE).context("it was sent")?;
    ensure!(sent.len() == 1 && sent[0].text == text && sent[0].id == id.uuid(), "{}", sent[0].text);
    ensure!(sent[0].validity.is_some_and(|validity| validity.as_secs() > 3_500), "{:?}", sent[0].validity);
    let second = take(&world, &message(text, None), asked(None, "1")).await?;
    ensure!(second == MessageId { position: 2, ..id }, "several may go to one phone: {second:?}");
    ensure!(world.send_of(SINGLE).await? == 1);
    world.is_sound().await?;

    let of_day = campaign(&world, id).await?;
    ensure!(of_day.single && of_day.recipients == 2 && of_day.state == State::Running, "{of_day:?}");
    let found = singles::of_phone(&world.pool, PHONE, id.date, None, 10).await?;
    let positions: Vec<i32> = found.iter().map(|one| one.row.position).collect();
    ensure!(positions == [2, 1], "{positions:?}");
    let behind = Some((id.date, id.campaign, 2));
    ensure!(singles::of_phone(&world.pool, PHONE, id.date, behind, 10).await?.len() == 1);

    // The campaign goes on until its day is over.
    world.round().await?;
    ensure!(campaign(&world, id).await?.state == State::Running);
    world.execute("update campaigns set date = date - 1").await?;
    world.round().await?;
    ensure!(campaign(&world, id).await?.state == State::Completed);
    let told =
        "select count(*) from outbox where kind like '%CampaignStarted' or kind like '%CampaignCompleted'";
    ensure!(world.count(told).await? == 2);
    Ok(())
}

#[tokio::test]
async fn the_same_key_is_the_same_message_and_another_request_by_it_is_refused() -> Result<()> {
    let world = World::new("singlekey").await?;
    let first = take(&world, &message("Uno", None), asked(Some("k"), "1")).await?;
    let again = take(&world, &message("Uno", None), asked(Some("k"), "1")).await?;
    ensure!(first == again);
    // Whatever has become of the phone, and of the senders.
    let mut conn = world.pool.acquire().await?;
    ensure!(keyed(&mut conn, "ana", "k", "1").await? == Some(first));
    ensure!(keyed(&mut conn, "ana", "other", "1").await?.is_none());
    drop(conn);
    let other = take(&world, &message("Dos", None), asked(Some("k"), "2")).await;
    ensure!(matches!(other, Err(NotTaken::Job(jobs::Error::KeyReused(_)))), "{other:?}");
    ensure!(world.count("select count(*) from messages").await? == 1);
    world.is_sound().await
}

#[tokio::test]
async fn several_at_once_have_a_place_each_in_one_campaign() -> Result<()> {
    let world = World::new("singlerace").await?;
    let (text, world) = (message("Hola", None), &world);
    let taken = (0..12).map(|_| async { take(world, &text, asked(None, "1")).await.map(|id| id.position) });
    let mut positions = Vec::new();
    for taken in futures::future::join_all(taken).await {
        positions.push(taken?);
    }
    positions.sort_unstable();
    ensure!(positions == (1..=12).collect::<Vec<_>>(), "{positions:?}");
    ensure!(world.count("select count(*) from campaigns").await? == 1);
    world.is_sound().await
}

#[tokio::test]
async fn what_has_expired_or_is_suppressed_is_not_sent() -> Result<()> {
    let world = World::new("singleskip").await?;
    let late = Message { expires_at: Utc::now() - TimeDelta::seconds(1), ..message("Tarde", None) };
    let late = take(&world, &late, asked(None, "1")).await?;
    let unwanted = take(&world, &message("No", None), asked(None, "1")).await?;
    world
        .execute(&format!(
            "insert into suppressions (phone_e164, reason, effective_at, source) values ('{PHONE}', 'opt_out', now(), 'test')"
        ))
        .await?;
    ensure!(world.send_of(SINGLE).await? == 2 && world.provider.accepted().is_empty());
    for (id, code) in [(late, "expired"), (unwanted, "opt_out")] {
        let row = row(&world, id).await?;
        ensure!(row.state() == MessageState::Skipped && row.code.as_deref() == Some(code), "{row:?}");
    }
    world.is_sound().await
}

#[tokio::test]
async fn a_message_waits_for_the_sender_that_it_must_have_and_is_fed_again() -> Result<()> {
    let world = World::new("singlesender").await?;
    let put = async |address: &str, enabled| -> Result<()> {
        let values = senders::SenderValues {
            address: address.to_owned(),
            provider: ProviderName::Telnyx,
            kind: SenderKind::ShortCode,
            per_second: 100.0,
            price: None,
            enabled,
        };
        senders::put(&mut *world.pool.acquire().await?, &values, "test").await?;
        Ok(())
    };
    put("12345", true).await?;
    let id = take(&world, &message("Hola", Some("12345")), asked(None, "1")).await?;
    let unknown = take(&world, &message("Hola", Some("99999")), asked(None, "1")).await;
    ensure!(matches!(unknown, Err(NotTaken::NoSender(_))), "{unknown:?}");
    put("12345", false).await?;
    let disabled = take(&world, &message("Hola", Some("12345")), asked(None, "1")).await;
    ensure!(matches!(disabled, Err(NotTaken::NoSender(_))), "{disabled:?}");
    world.send_of(SINGLE).await?;
    ensure!(world.provider.accepted().is_empty(), "no other sender takes its place");
    put("12345", true).await?;
    world.execute("update slices set due_at = now()").await?;
    world.round().await?;
    ensure!(world.waiting("sms.slices").await?.is_empty(), "it does not stand in line behind campaigns");
    ensure!(world.send_of(SINGLE).await? == 1);
    ensure!(row(&world, id).await?.sender.as_deref() == Some("12345"));
    world.is_sound().await
}

#[tokio::test]
async fn what_has_no_sender_expires_all_the_same() -> Result<()> {
    let world = World::new("singlenobody").await?;
    let late = Message { expires_at: Utc::now() + TimeDelta::seconds(20), ..message("Código", None) };
    let id = take(&world, &late, asked(None, "1")).await?;
    let mut conn = world.pool.acquire().await?;
    providers::close(&mut conn, ProviderName::Telnyx, "Sin crédito", None).await?;
    drop(conn);
    world.send_of(SINGLE).await?;
    ensure!(row(&world, id).await?.state() == MessageState::Pending);
    let due = "select count(*) from slices where due_at <= now() + interval '20 seconds'";
    ensure!(world.count(due).await? == 1, "it looks again when the message is worthless");
    world.execute("update messages set expires_at = now(); update slices set due_at = now()").await?;
    world.round().await?;
    ensure!(world.send_of(SINGLE).await? == 1, "nobody looks at it");
    let row = row(&world, id).await?;
    ensure!(row.state() == MessageState::Skipped && row.code.as_deref() == Some("expired"), "{row:?}");
    world.is_sound().await
}

#[tokio::test]
async fn a_single_message_does_not_wait_for_what_a_campaign_has_reserved() -> Result<()> {
    let world = World::new("singlefirst").await?;
    world.contacts(400).await?;
    providers::configure(&world.pool, ProviderName::Telnyx, 10.0).await?;
    let bulk = world.started(Kind::Cobranza, World::plan(|plan| plan["per_minute"] = json!(600_000))).await?;
    world.round().await?;
    let world = &world;
    let sending = async { world.send().await };
    let single = async {
        while world.provider.accepted().len() < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        take(world, &message("Ahora", None), asked(None, "1")).await?;
        world.send_of(SINGLE).await?;
        let accepted = world.provider.accepted();
        ensure!(accepted.contains_key(PHONE), "it was sent");
        ensure!(accepted.len() < 40, "{} of the campaign went before it", accepted.len());
        world.act(bulk.id, Action::Pause).await?;
        Ok(())
    };
    let (sent, single) = tokio::join!(sending, single);
    single?;
    sent?;
    world.is_sound().await
}
