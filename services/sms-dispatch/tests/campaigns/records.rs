//! What is asked of providers: about messages that nothing was heard of, and about our account.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use chrono::TimeDelta;
use sea_orm::sqlx;
use sms_dispatch::{
    accounts::Accounts,
    advisory_lock::{ACCOUNTS, AdvisoryLock},
    domain::{Phone, campaign::Kind, message_state::MessageState, sender::ProviderName},
    providers::messaging::{Outcome, Refusal, Submission, Verdict},
    reconciler::{Patience, Reconciler},
    storage::providers,
};

use crate::world::World;

/// Without patience.
const AT_ONCE: Patience = Patience {
    unknown: TimeDelta::zero(),
    accepted: TimeDelta::zero(),
    unconfirmed: TimeDelta::hours(72),
    again: TimeDelta::zero(),
};

fn reconciler(world: &World, patience: Patience) -> Reconciler {
    let mut settings = (*world.settings).clone();
    settings.records_per_second = 1_000.0;
    Reconciler::new(world.pool.clone(), world.providers(), Arc::new(settings), patience)
}

#[tokio::test]
async fn what_nobody_heard_of_is_found_in_the_records_and_absence_proves_nothing() -> Result<()> {
    let world = World::new("records").await?;
    world.contacts(6).await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    world.provider.answer_next([Submission::Unknown { reason: "503".to_owned() }]);
    world.provider.lose_answers(3);
    world.finish(campaign.id).await?;
    ensure!(world.in_state(&campaign, MessageState::Unknown.code()).await? == 4);
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 2);
    // Still queued there: no record yet.
    ensure!(reconciler(&world, AT_ONCE).round().await? == Some(0));
    world.provider.keep_records();
    // Webhooks have their time first.
    ensure!(reconciler(&world, Patience::default()).round().await? == Some(0));
    world.execute("update campaign_sweeps set due_at = now()").await?;
    ensure!(reconciler(&world, AT_ONCE).round().await? == Some(5));
    ensure!(world.in_state(&campaign, MessageState::Delivered.code()).await? == 5);
    ensure!(
        world.in_state(&campaign, MessageState::Unknown.code()).await? == 1,
        "it is not sent again by itself"
    );
    ensure!(world.count("select count(*) from phone_sends where sends = 1").await? == 5);
    ensure!(world.count("select count(distinct provider_id) from messages").await? == 5);
    world.is_sound().await
}

#[tokio::test]
async fn what_a_provider_took_and_says_nothing_of_for_too_long_is_unconfirmed() -> Result<()> {
    let world = World::new("unconfirmed").await?;
    world.contacts(4).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.answer_next([Submission::Unknown { reason: "503".to_owned() }]);
    world.finish(campaign.id).await?;
    ensure!(reconciler(&world, AT_ONCE).round().await? == Some(0), "it has 72 hours");
    let too_long = Patience { unconfirmed: TimeDelta::zero(), ..AT_ONCE };
    ensure!(reconciler(&world, too_long).round().await? == Some(3));
    ensure!(world.in_state(&campaign, MessageState::Unconfirmed.code()).await? == 3);
    ensure!(world.in_state(&campaign, MessageState::Unknown.code()).await? == 1, "a person decides about it");
    ensure!(reconciler(&world, too_long).round().await? == Some(0));
    world.is_sound().await
}

/// The rate of questions is limited: what was asked about often keeps nobody waiting.
#[tokio::test]
async fn records_are_asked_about_unknowns_first_and_then_ever_less() -> Result<()> {
    let world = World::new("everless").await?;
    world.contacts(6).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(campaign.id).await?;
    // Which of them nobody heard of: the last one.
    world
        .execute("update messages set state = 2, provider_id = null, sent_at = null where position = 6")
        .await?;
    let patience = Patience { again: TimeDelta::hours(1), ..AT_ONCE };
    let asked = async || {
        world.execute("update campaign_sweeps set due_at = now()").await?;
        let before = world.provider.looked_up().len();
        reconciler(&world, patience).round().await?;
        anyhow::Ok(world.provider.looked_up().len() - before)
    };
    ensure!(asked().await? == 6);
    ensure!(world.provider.looked_up() == [false, true, true, true, true, true]);
    let mut hours = 0;
    let mut pauses = Vec::new();
    for _ in 0..50 {
        world.execute("update unheard_messages set last_at = last_at - interval '61 minutes'").await?;
        hours += 1;
        if asked().await? > 0 {
            pauses.push(hours);
            hours = 0;
        }
    }
    ensure!(pauses == [1, 2, 4, 8, 16, 16], "asked again after {pauses:?} hours");
    Ok(())
}

/// The rate of an account may be used up by somebody else, for hours.
#[tokio::test]
async fn a_provider_that_has_too_much_of_our_questions_is_left_alone_for_a_while() -> Result<()> {
    let world = World::new("throttledrecords").await?;
    world.contacts(12).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(campaign.id).await?;
    world.provider.keep_records();
    world.provider.throttle_records(true);
    for _ in 0..2 {
        ensure!(reconciler(&world, AT_ONCE).round().await? == Some(0));
        let asked = world.provider.looked_up().len();
        ensure!(asked == 3, "{asked} questions, and all other campaigns wait");
    }
    ensure!(
        world.count("select count(*) from unheard_messages where asked").await? == 0,
        "it was no question"
    );
    world.provider.throttle_records(false);
    world.execute("update campaign_sweeps set due_at = now()").await?;
    ensure!(reconciler(&world, AT_ONCE).round().await? == Some(12));
    ensure!(world.in_state(&campaign, MessageState::Delivered.code()).await? == 12);
    world.is_sound().await
}

#[tokio::test]
async fn a_campaign_that_can_not_be_read_any_more_keeps_no_other_from_being_asked_about() -> Result<()> {
    let world = World::new("badrecords").await?;
    world.contacts(3).await?;
    let broken = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let good = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(broken.id).await?;
    world.finish(good.id).await?;
    world
        .execute(&format!(
            "update campaigns set plan = jsonb_set(plan, '{{texts}}', '[{{\"text\": \"{{apodo}}\", \"weight\": 1}}]')
             where number = {}",
            broken.number
        ))
        .await?;
    world.provider.keep_records();
    ensure!(reconciler(&world, AT_ONCE).round().await? == Some(3));
    ensure!(world.in_state(&good, MessageState::Delivered.code()).await? == 3);
    ensure!(world.in_state(&broken, MessageState::Accepted.code()).await? == 3);
    let put_off = format!(
        "select count(*) from campaign_sweeps where campaign = {} and due_at > now() + interval '1 minute'",
        broken.number
    );
    ensure!(world.count(&put_off).await? == 1, "it is tried again in each round");
    Ok(())
}

#[tokio::test]
async fn a_provider_opens_when_its_balance_rises_and_not_before() -> Result<()> {
    let world = World::new("balance").await?;
    let accounts = Accounts::new(world.pool.clone(), world.providers());
    let mut conn = world.pool.acquire().await?;
    let closed = "select count(*) from sms_providers where closed_at is not null";
    // With what it had when it closed no message goes; a person pays; it is spent; a person pays less.
    for (close, micros, is_closed) in [
        (true, 0, true),
        (false, 5_000_000, false),
        (true, 5_000_000, true),
        (false, 40_000, true),
        (false, 40_001, false),
        (true, 0, true),
        (false, -10, true),
        (false, 20_000, false),
    ] {
        if close {
            providers::close(&mut conn, ProviderName::Telnyx, "Sin fondos", None).await?;
        }
        world.provider.set_balance(micros);
        accounts.round().await?;
        ensure!((world.count(closed).await? == 1) == is_closed, "with {micros}");
    }
    let audited: i64 = sqlx::query_scalar(
        "select count(*) from contact_audit where action = 'sms_provider_opened' and actor = 'system'",
    )
    .fetch_one(&world.pool)
    .await?;
    ensure!(audited == 3, "{audited}");
    // What opens by itself at its time is not asked about.
    let opens_at = Some(chrono::Utc::now() + TimeDelta::hours(1));
    providers::close(&mut conn, ProviderName::Telnyx, "Límite diario", opens_at).await?;
    world.provider.set_balance(9_000_000);
    accounts.round().await?;
    ensure!(world.count(closed).await? == 1);
    Ok(())
}

#[tokio::test]
async fn a_top_up_to_the_balance_of_before_opens_a_provider() -> Result<()> {
    let world = World::new("topup").await?;
    let accounts = Accounts::new(world.pool.clone(), world.providers());
    let mut conn = world.pool.acquire().await?;
    let closed = "select count(*) from sms_providers where closed_at is not null";
    let paid = async |micros: i64| {
        world.provider.set_balance(micros);
        accounts.round().await
    };
    providers::close(&mut conn, ProviderName::Telnyx, "Sin fondos", None).await?;
    paid(0).await?;
    paid(5_000_000).await?;
    ensure!(world.count(closed).await? == 0);
    // It is spent, a minute at a time.
    paid(40_000).await?;
    providers::close(&mut conn, ProviderName::Telnyx, "Sin fondos", None).await?;
    paid(5_000_000).await?;
    ensure!(world.count(closed).await? == 0, "it was with less that it was closed");

    // It is spent within a minute, and paid again before anybody asks.
    world.contacts(3).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.set_balance(1_000);
    let verdict = Verdict {
        outcome: Outcome::ProviderClosed,
        code: Some(20_100),
        reason: "La cuenta no tiene fondos.".to_owned(),
        suppresses: false,
        landline: false,
        billed: false,
        repeatable: true,
    };
    world.provider.refuse(Some(Submission::NotAccepted(Refusal { verdict, pause: None })));
    world.until("it should be closed", async || anyhow::Ok(world.count(closed).await? == 1)).await?;
    accounts.round().await?;
    ensure!(world.count(closed).await? == 1, "with what it had when it was closed");
    paid(5_000_000).await?;
    ensure!(world.count(closed).await? == 0, "it was with less that it was closed");
    world.provider.refuse(None);
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 3);
    Ok(())
}

/// What its gauge shows of a provider.
fn shown(provider: &str) -> Option<f64> {
    let families = prometheus::gather();
    let family = families.iter().find(|family| family.name() == "sms_provider_closed")?;
    let of_provider = |metric: &&prometheus::proto::Metric| {
        metric.get_label().iter().any(|label| label.value() == provider)
    };
    Some(family.get_metric().iter().find(of_provider)?.get_gauge().get_value())
}

#[tokio::test]
async fn whether_a_provider_takes_messages_is_shown_by_whoever_does_not_ask_it_too() -> Result<()> {
    let world = World::new("closedshown").await?;
    // Of no other test: gauges are the process's.
    let name = ProviderName::Twilio;
    providers::configure(&world.pool, name, 10.0).await?;
    let accounts = Accounts::new(world.pool.clone(), world.providers());
    let mut conn = world.pool.acquire().await?;
    let other = AdvisoryLock::try_take(&world.pool, ACCOUNTS).await?.context("nobody asks")?;
    accounts.round().await?;
    ensure!(shown("twilio") == Some(0.0), "{:?}", shown("twilio"));
    providers::close(&mut conn, name, "Sin fondos", None).await?;
    accounts.round().await?;
    ensure!(shown("twilio") == Some(1.0), "{:?}", shown("twilio"));
    providers::open(&mut conn, Some(name)).await?;
    accounts.round().await?;
    ensure!(shown("twilio") == Some(0.0), "{:?}", shown("twilio"));
    // It opens for one request at a time: it does not answer yet.
    world.execute("update sms_providers set silent = 8 where name = 'twilio'").await?;
    accounts.round().await?;
    ensure!(shown("twilio") == Some(1.0), "{:?}", shown("twilio"));
    // Nothing has gone through it since: it need not be broken any more.
    world
        .execute("update sms_providers set opened_at = now() - interval '1 hour' where name = 'twilio'")
        .await?;
    accounts.round().await?;
    ensure!(shown("twilio") == Some(0.0), "{:?}", shown("twilio"));
    Ok(other.end().await?)
}

#[tokio::test]
async fn who_opted_out_with_the_provider_is_suppressed_here() -> Result<()> {
    let world = World::new("theirs").await?;
    world.contacts(3).await?;
    for phone in ["+526121000007", "+526121000014"] {
        world.provider.opted_out(Phone::from_e164(phone).context("a phone")?);
    }
    let accounts = Accounts::new(world.pool.clone(), world.providers());
    accounts.round().await?;
    ensure!(world.count("select count(*) from suppressions where source = 'proveedor'").await? == 2);
    ensure!(world.count("select count(*) from contacts where opt_out_at is not null").await? == 2);
    ensure!(world.count("select count(*) from sms_providers where opt_outs_until is not null").await? == 1);
    accounts.round().await?;
    ensure!(world.count("select count(*) from suppressions").await? == 2);
    Ok(())
}
