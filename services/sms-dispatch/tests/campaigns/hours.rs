//! Recipients are written to in their hours, by the clocks on their own walls; single messages at any.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::{America, Tz};
use sea_orm::sqlx;
use sms_dispatch::{
    config::SmsSettings,
    domain::{Phone, campaign::Kind, windows::Hours},
    jobs::send_slice::SINGLE,
    singles::{Asked, Day, Message},
    storage::slices,
};

use crate::world::{LIMIT, World};

/// The minute of the day that a clock there shows.
fn minute(zone: Tz, now: DateTime<Utc>) -> u16 {
    let there = now.with_timezone(&zone);
    u16::try_from(there.hour() * 60 + there.minute()).expect("a day has 1,440")
}

/// Hours that it is now in one of two places between which there are two hours, for an hour at least, and not in the other; and
/// whether it is Quintana Roo.
fn hours_of_one(now: DateTime<Utc>) -> Result<(Hours, bool)> {
    let east = minute(America::Cancun, now);
    let is_east = east <= 23 * 60;
    let here = if is_east { east } else { minute(America::Hermosillo, now) };
    Ok((Hours::new(here.saturating_sub(30), here + 60).context("hours")?, is_east))
}

/// Hours that it is nowhere in Mexico now, and will not be for an hour.
pub fn hours_of_nobody(now: DateTime<Utc>) -> Result<Hours> {
    // The first clock of the country; the last is three hours behind it.
    let first = minute(America::Cancun, now);
    let from = if first <= 20 * 60 { first + 120 } else { first - 400 };
    Hours::new(from, from + 60).context("hours")
}

/// These settings with other hours.
pub fn within(settings: &SmsSettings, hours: Hours) -> Arc<SmsSettings> {
    Arc::new(SmsSettings { hours: Some(hours), ..settings.clone() })
}

#[tokio::test]
async fn nobody_is_written_to_outside_of_the_hours_of_its_own_clocks() -> Result<()> {
    let mut world = World::new("hours").await?;
    world.contacts(30).await?;
    // The others live where it is two hours earlier.
    world.execute("update contacts set state_code = 'QROO' where source_id % 3 = 2").await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let any_time = Arc::clone(&world.settings);
    let (hours, is_east) = hours_of_one(Utc::now())?;
    let limited = within(&any_time, hours);
    let mine: Vec<String> = sqlx::query_scalar(
        "select phone_e164 from contacts where (state_code is not distinct from 'QROO') = $1 order by 1",
    )
    .bind(is_east)
    .fetch_all(&world.pool)
    .await?;
    let written_to = |world: &World| {
        let mut phones: Vec<String> = world.provider.accepted().into_keys().collect();
        phones.sort_unstable();
        phones
    };
    world.settings = Arc::clone(&limited);
    let all = async || anyhow::Ok(world.provider.accepted().len() >= mine.len());
    world.until("those should be written to whose hours these are", all).await?;
    world.round().await?;
    world.send().await?;
    ensure!(written_to(&world) == mine, "{:?}", written_to(&world));

    // The rest was given to workers while it might be, and comes to them when it may not.
    world.settings = Arc::clone(&any_time);
    world.round().await?;
    ensure!(world.count("select count(*) from slices where state = 'fed'").await? > 0);
    world.settings = limited;
    ensure!(world.send().await? > 0);
    ensure!(written_to(&world) == mine, "{:?}", written_to(&world));
    let waits = slices::waits(&world.pool, campaign.number).await?;
    let later = Utc::now() + TimeDelta::minutes(30);
    let says = |wait: &slices::Waiting| {
        wait.reason.as_deref() == Some("horario") && wait.due.is_some_and(|due| due > later)
    };
    ensure!(!waits.is_empty() && waits.iter().all(says), "{waits:?}");

    world.settings = any_time;
    world.execute("update slices set due_at = now(), reason = null where state = 'waiting'").await?;
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 30);
    world.is_sound().await
}

#[tokio::test]
async fn a_single_message_goes_at_whatever_hour() -> Result<()> {
    let mut world = World::new("anyhour").await?;
    world.contacts(3).await?;
    let campaign = world.started(Kind::Transactional, World::plan(|_| ())).await?;
    world.settings = within(&world.settings, hours_of_nobody(Utc::now())?);
    let to = Phone::from_e164("+526121004799").context("a phone")?;
    let expires_at = Utc::now() + TimeDelta::hours(1);
    let message = Message { to, text: "Código 123", sender: None, expires_at };
    let asked = Asked { actor: "ana", key: None, hash: None, correlation: None };
    let mut transaction = world.pool.begin().await?;
    let mut day = Day::open(&mut transaction, &world.settings, Utc::now()).await?;
    day.add(&mut transaction, &world.settings, &message, asked).await?;
    transaction.commit().await?;
    world.round().await?;
    ensure!(world.send().await? == 0, "a campaign waits for the hours of its people");
    let began = Instant::now();
    while world.provider.accepted().is_empty() {
        ensure!(began.elapsed() < LIMIT, "it waits");
        world.send_of(SINGLE).await?;
        world.round().await?;
    }
    ensure!(world.provider.accepted().contains_key("+526121004799"));
    ensure!(world.in_state(&campaign, 0).await? == 3);
    world.is_sound().await
}
