//! A message that a person has sent again costs again, and what its earlier attempt cost stays known.

use anyhow::{Result, ensure};
use chrono::TimeDelta;
use serde_json::json;
use sms_dispatch::{
    again::{Order, Which, decide},
    domain::{campaign::Kind, message_state::MessageState},
    providers::messaging::{Outcome, Refusal, Submission, Verdict},
    reports::Reports,
    storage::{campaigns::Campaign, totals},
};

use crate::world::World;

const PRICE: i64 = 5_100;
/// As if the time of a sender that is held had come.
const FREE: &str = "update sms_senders set held_until = null; update slices set due_at = now()";

fn refusal(outcome: Outcome, code: u32) -> Submission {
    let verdict = Verdict {
        outcome,
        code: Some(code),
        reason: "Motivo".to_owned(),
        suppresses: false,
        landline: false,
        billed: false,
        repeatable: outcome == Outcome::Later,
    };
    Submission::NotAccepted(Refusal { verdict, pause: None })
}

async fn resend(world: &World, campaign: &Campaign, which: Which) -> Result<i64> {
    let mut transaction = world.pool.begin().await?;
    let campaign = sms_dispatch::storage::campaigns::lock(&mut transaction, campaign.id).await?;
    let campaign = campaign.expect("the campaign");
    let decided = decide(&mut transaction, &campaign, which, Order::Resend, 0, false, "ana").await?;
    transaction.commit().await?;
    Ok(decided.messages)
}

async fn totals_are(world: &World, campaign: &Campaign, messages: i64) -> Result<()> {
    let costs = totals::costs(&world.pool, campaign.number).await?;
    ensure!(costs == [("USD".to_owned(), messages * PRICE)], "{costs:?} of {messages} messages");
    let parts: i64 = totals::of(&world.pool, campaign.number).await?.iter().map(|total| total.parts).sum();
    ensure!(parts == messages, "{parts} parts of {messages} messages");
    world.is_sound().await
}

#[tokio::test]
async fn a_message_that_is_sent_again_is_paid_again_and_no_budget_is_passed_by_it() -> Result<()> {
    let world = World::new("resentcost").await?;
    world.contacts(2).await?;
    let most = json!({ "micros": 3 * PRICE, "currency": "USD" });
    let campaign = world.started(Kind::Cobranza, World::plan(|plan| plan["most_cost"] = most)).await?;
    world.finish(campaign.id).await?;
    for (id, phone) in world.messages(&campaign).await? {
        world.reported(id, 1, &phone, "delivery_failed", ("0.0051", "USD")).await?;
    }
    Reports::new(world.pool.clone()).statuses().await?;
    totals_are(&world, &campaign, 2).await?;

    ensure!(resend(&world, &campaign, Which::Failed).await? == 2);
    totals_are(&world, &campaign, 2).await?;
    let sent = || world.provider.accepted().values().flatten().count();
    world.until("three should go out", async || anyhow::Ok(sent() >= 3)).await?;
    world.round().await?;
    world.send().await?;
    ensure!(sent() == 3, "{} went out with money for 3", sent());
    ensure!(world.in_state(&campaign, MessageState::Pending.code()).await? == 1);
    totals_are(&world, &campaign, 3).await?;
    while totals::fold(&world.pool).await? {}
    totals_are(&world, &campaign, 3).await
}

#[tokio::test]
async fn what_may_have_gone_out_is_paid_for_when_it_is_sent_again() -> Result<()> {
    let world = World::new("resentunknown").await?;
    world.contacts(3).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.lose_answers(2);
    world.finish(campaign.id).await?;
    totals_are(&world, &campaign, 3).await?;
    ensure!(resend(&world, &campaign, Which::Unknown { since: TimeDelta::zero() }).await? == 2);
    world.finish(campaign.id).await?;
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 3);
    totals_are(&world, &campaign, 5).await
}

/// The answer is about the last attempt alone: an earlier one may have reached the phone.
#[tokio::test]
async fn who_may_have_had_an_earlier_attempt_keeps_the_turn_when_the_last_is_refused() -> Result<()> {
    let world = World::new("resentturn").await?;
    world.contacts(2).await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    world.provider.lose_answers(1);
    world.finish(campaign.id).await?;
    ensure!(resend(&world, &campaign, Which::Unknown { since: TimeDelta::zero() }).await? == 1);
    world.provider.answer_next([refusal(Outcome::Failed, 40_300)]);
    world.finish(campaign.id).await?;
    ensure!(world.in_state(&campaign, MessageState::Failed.code()).await? == 1);
    ensure!(world.count("select count(*) from phone_sends where marketing_at is not null").await? == 2);
    let second = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    world.finish(second.id).await?;
    let sent = world.provider.accepted().values().flatten().count();
    ensure!(sent == 2, "{sent} went out: somebody had marketing twice within the week");
    world.is_sound().await
}

/// A sender waits longer each time that its provider has too much of it, by how often a message was refused.
#[tokio::test]
async fn a_message_that_is_sent_again_has_all_its_attempts_and_holds_its_sender_as_the_first_time()
-> Result<()> {
    let world = World::new("resentfull").await?;
    world.contacts(1).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.refuse(Some(refusal(Outcome::Later, 40_318)));
    let failed = async || {
        world.execute(FREE).await?;
        anyhow::Ok(world.in_state(&campaign, MessageState::Failed.code()).await? == 1)
    };
    world.until("it should be given up", failed).await?;
    world.finish(campaign.id).await?;
    ensure!(
        world.count("select count(*) from messages where state = 6 and attempt - unasked = 20").await? == 1
    );

    ensure!(resend(&world, &campaign, Which::Failed).await? == 1);
    world.execute(FREE).await?;
    // One refusal more does not burn it.
    let waits = "select count(*) from messages where state = 0 and attempt > 21 and attempt - unasked = 1";
    world.until("it should be refused and wait", async || anyhow::Ok(world.count(waits).await? == 1)).await?;
    let held = "select count(*) from sms_senders where held_until > now() + interval '5 seconds'";
    ensure!(world.count(held).await? == 0, "the sender waits for ten minutes");
    world.provider.refuse(None);
    world.execute(FREE).await?;
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 1);
    world.is_sound().await
}

/// Once it was surely not accepted, and now there is no money for it: nobody has written to the phone.
#[tokio::test]
async fn a_message_without_money_gives_the_turn_back_though_it_was_refused_before() -> Result<()> {
    let world = World::new("poorturn").await?;
    world.contacts(3).await?;
    // All in one slice.
    world.execute("update contacts set state_code = 'SON'").await?;
    let most = json!({ "micros": 3 * PRICE, "currency": "USD" });
    let campaign = world.started(Kind::Marketing, World::plan(|plan| plan["most_cost"] = most)).await?;
    world.provider.refuse(Some(refusal(Outcome::Later, 40_318)));
    let refused = "select count(*) from messages where state = 0 and attempt > unasked";
    world.until("all should be refused", async || anyhow::Ok(world.count(refused).await? == 3)).await?;
    world.provider.refuse(None);
    world
        .execute(&format!("update campaigns set plan = jsonb_set(plan, '{{most_cost,micros}}', '{PRICE}')"))
        .await?;
    world.execute(FREE).await?;
    let accepted = async || anyhow::Ok(world.in_state(&campaign, MessageState::Accepted.code()).await? >= 1);
    world.until("one should go", accepted).await?;
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 1);
    ensure!(world.in_state(&campaign, MessageState::Pending.code()).await? == 2);
    let turns = world.count("select count(*) from phone_sends where marketing_campaign is not null").await?;
    ensure!(turns == 1, "{turns} phones are kept for one message");
    world.is_sound().await
}
