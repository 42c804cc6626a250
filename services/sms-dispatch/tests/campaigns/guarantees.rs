//! What must hold whatever happens: nothing twice, nobody who said no, no row burnt.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::TimeDelta;
use jobs::Runner;
use sea_orm::sqlx;
use sms_dispatch::{
    again::{Order, Which, decide},
    domain::{
        campaign::{Kind, State},
        message_state::MessageState,
    },
    providers::messaging::{Outcome, Refusal, Submission, Verdict},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{LIMIT, World};

fn refusal(outcome: Outcome, pause: Option<Duration>) -> Submission {
    let verdict = Verdict {
        outcome,
        code: Some(40_300),
        reason: "Motivo".to_owned(),
        suppresses: false,
        landline: false,
        billed: false,
        repeatable: false,
    };
    Submission::NotAccepted(Refusal { verdict, pause })
}

#[tokio::test]
async fn requests_of_a_worker_that_died_are_unknown_and_never_made_again() -> Result<()> {
    let world = World::new("takeover").await?;
    world.contacts(120).await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    world.provider.fall_silent(true);
    world.round().await?;
    let job: Uuid =
        sqlx::query_scalar("select id from jobs where kind = 'sms.slices' order by created_at limit 1")
            .fetch_one(&world.pool)
            .await?;
    let runner = Runner::new(world.pool.clone()).lease(Duration::from_secs(1));
    let (work, token) = (world.sender(), CancellationToken::new());
    // Dropped in the midst of its requests, as by SIGKILL.
    tokio::select! {
        ran = runner.run(job, &token, &work) => anyhow::bail!("it left before its requests: {}", ran.is_ok()),
        () = world.provider.has_accepted(1) => {}
    }
    // Their requests are made, and never answered. One that would begin too late is not made, and waits again.
    let began = Instant::now();
    let in_flight = loop {
        let in_flight = world.in_state(&campaign, MessageState::Submitting.code()).await?;
        let accepted = world.provider.accepted().len() as i64;
        if in_flight == accepted {
            break in_flight;
        }
        ensure!(began.elapsed() < LIMIT, "{in_flight} in flight, {accepted} requests");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    ensure!(in_flight > 0, "no request was made");

    world.provider.fall_silent(false);
    // Its lease has lapsed.
    world
        .execute("update jobs set lease_until = now() - interval '1 second' where state = 'running'")
        .await?;
    world.execute("update messages set deadline = now() - interval '1 second' where state = 1").await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Completed);
    let unknown = world.in_state(&campaign, MessageState::Unknown.code()).await?;
    ensure!(unknown == in_flight, "{unknown} unknown of {in_flight} in flight");
    let accepted = world.provider.accepted();
    ensure!(accepted.len() == 120 && accepted.values().all(|messages| messages.len() == 1));
    world.is_sound().await?;

    // A person looks how many they are, and then gives them up.
    let since = TimeDelta::zero();
    let mut transaction = world.pool.begin().await?;
    for dry_run in [true, false] {
        let decided =
            decide(&mut transaction, &ended, Which::Unknown { since }, Order::GiveUp, 0, dry_run, "ana")
                .await?;
        ensure!(decided.messages == in_flight && decided.next.is_none(), "{decided:?}");
    }
    transaction.commit().await?;
    ensure!(world.in_state(&campaign, MessageState::Failed.code()).await? == in_flight);
    world.is_sound().await
}

#[tokio::test]
async fn requests_that_may_be_under_way_are_left_alone_until_their_deadline_and_keep_nobody_waiting()
-> Result<()> {
    let world = World::new("underway").await?;
    world.contacts(10).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world
        .execute("update messages set state = 1, attempt = 1, deadline = now() + interval '1 hour' where position <= 3")
        .await?;
    world.sends_and_stops(&campaign, MessageState::Accepted, 7).await?;
    ensure!(world.provider.accepted().len() == 7, "the others go on");
    ensure!(world.in_state(&campaign, MessageState::Submitting.code()).await? == 3);
    // Nothing is left to be sent, and it is not over.
    world.round().await?;
    ensure!(world.send().await? == 0, "its slices wait until then");
    ensure!(world.campaign(campaign.id).await?.state == State::Running);
    world.execute("update messages set deadline = now() - interval '1 second' where state = 1").await?;
    world.execute("update slices set due_at = now() where state = 'waiting'").await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(world.in_state(&campaign, MessageState::Unknown.code()).await? == 3);
    ensure!(ended.state == State::Completed && world.provider.accepted().len() == 7, "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn who_opts_out_after_the_ledger_was_written_is_skipped() -> Result<()> {
    let world = World::new("optout").await?;
    world.contacts(60).await?;
    let campaign = world.started(Kind::Transactional, World::plan(|_| ())).await?;
    world
        .execute(
            "insert into suppressions (phone_e164, reason, effective_at, source)
             select phone_e164, case when position <= 5 then 'opt_out' else 'repep' end, now(), 'test' from messages
             where position <= 8",
        )
        .await?;
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 55, "REPEP stops advertising only");
    ensure!(world.in_state(&campaign, MessageState::Skipped.code()).await? == 5);
    let reason: String = sqlx::query_scalar("select reason from messages where state = 9 limit 1")
        .fetch_one(&world.pool)
        .await?;
    ensure!(reason == "El destinatario se dio de baja", "{reason}");
    world.is_sound().await
}

#[tokio::test]
async fn who_enters_a_register_after_the_ledger_was_written_is_skipped_for_the_first_of_its_reasons()
-> Result<()> {
    let world = World::new("registers").await?;
    world.contacts(20).await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    // One phone each, but for the first two, which have several reasons.
    world
        .execute(
            "insert into suppressions (phone_e164, reason, effective_at, source)
             select m.phone_e164, s.reason, now(), 'test' from messages m
             join (values (1, 'reus'), (1, 'repep'), (1, 'opt_out'), (2, 'reus'), (2, 'repep'), (3, 'reus'), (4, 'manual'))
                 s (position, reason) using (position)",
        )
        .await?;
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 16);
    let codes: Vec<(i32, String)> =
        sqlx::query_as("select position, code from messages where state = 9 order by position")
            .fetch_all(&world.pool)
            .await?;
    let expected = [(1, "opt_out"), (2, "repep"), (3, "reus"), (4, "manual")];
    ensure!(codes == expected.map(|(position, code)| (position, code.to_owned())), "{codes:?}");
    world.is_sound().await
}

/// Somebody else has the row of one phone, as who applies reports and is stopped: the claim waits for it.
#[tokio::test]
async fn who_opts_out_while_a_claim_waits_for_a_phones_turn_is_skipped() -> Result<()> {
    let world = World::new("optoutwaits").await?;
    world.contacts(10).await?;
    // All in one slice.
    world.execute("update contacts set state_code = 'SON'").await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    let phones: Vec<String> =
        sqlx::query_scalar("select phone_e164 from messages order by 1").fetch_all(&world.pool).await?;
    let (first, last) = phones.first().zip(phones.last()).context("recipients")?;
    let mut holder = world.pool.begin().await?;
    sqlx::query("insert into phone_sends (phone_e164) values ($1)").bind(last).execute(&mut *holder).await?;
    world.round().await?;
    let (sent, opted_out) = tokio::join!(world.send(), async {
        world.blocked("phone_sends").await?;
        world
            .execute(&format!(
                "insert into suppressions (phone_e164, reason, effective_at, source)
                 values ('{first}', 'opt_out', now(), 'test')"
            ))
            .await?;
        // Longer than turns take for which nobody waits.
        tokio::time::sleep(Duration::from_millis(200)).await;
        holder.rollback().await.map_err(anyhow::Error::from)
    });
    opted_out?;
    ensure!(sent? == 1, "nothing was with workers");
    world.finish(campaign.id).await?;
    let accepted = world.provider.accepted();
    ensure!(accepted.len() == 9 && !accepted.contains_key(first), "{} were sent to", accepted.len());
    ensure!(world.count("select count(*) from messages where state = 9 and code = 'opt_out'").await? == 1);
    world.is_sound().await
}

#[tokio::test]
async fn two_campaigns_of_marketing_at_once_do_not_both_reach_a_phone() -> Result<()> {
    let world = World::new("cap").await?;
    world.contacts(400).await?;
    let one = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    let other = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    ensure!((one.recipients, other.recipients) == (400, 400), "both have everybody");
    world.finish(one.id).await?;
    world.finish(other.id).await?;
    let accepted = world.provider.accepted();
    ensure!(accepted.len() == 400 && accepted.values().all(|messages| messages.len() == 1));
    let skipped = "select count(*) from messages where state = 9 and code = 'cap'";
    ensure!(world.count(skipped).await? == 400);
    world.is_sound().await
}

#[tokio::test]
async fn what_was_surely_not_accepted_is_sent_again_and_keeps_its_turn() -> Result<()> {
    let world = World::new("later").await?;
    world.contacts(40).await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    let pause = Some(Duration::from_millis(10));
    world.provider.answer_next((0..15).map(|_| refusal(Outcome::Later, pause)));
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 40);
    ensure!(
        world.count("select count(*) from messages where attempt - unasked = 2 and state = 3").await? == 15
    );
    ensure!(
        world.count("select count(*) from phone_sends where sends = 1 and marketing_at is not null").await?
            == 40
    );
    world.is_sound().await
}

#[tokio::test]
async fn without_credit_no_row_is_burnt_and_an_operator_opens_the_provider() -> Result<()> {
    let world = World::new("credit").await?;
    world.contacts(80).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.refuse(Some(refusal(Outcome::ProviderClosed, None)));
    let closed = "select count(*) from sms_providers where closed_at is not null";
    world.until("it should be closed", async || anyhow::Ok(world.count(closed).await? == 1)).await?;
    let rows_wait = async || anyhow::Ok(world.in_state(&campaign, MessageState::Pending.code()).await? == 80);
    world.until("all rows should wait", rows_wait).await?;
    world.round().await?;
    ensure!(world.send().await? == 0, "nothing is fed");
    ensure!(world.campaign(campaign.id).await?.waiting.as_deref() == Some("proveedor"));
    world.provider.refuse(None);
    let mut conn = world.pool.acquire().await?;
    let name = sms_dispatch::domain::sender::ProviderName::Telnyx;
    sms_dispatch::storage::providers::open(&mut conn, Some(name)).await?;
    drop(conn);
    world.execute("update slices set due_at = now()").await?;
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 80);
    world.is_sound().await
}

#[tokio::test]
async fn an_opt_out_at_the_provider_suppresses_here_too() -> Result<()> {
    let world = World::new("stopped").await?;
    world.contacts(5).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let Submission::NotAccepted(mut refused) = refusal(Outcome::Failed, None) else { unreachable!() };
    refused.verdict.suppresses = true;
    world.provider.answer_next([Submission::NotAccepted(refused)]);
    world.finish(campaign.id).await?;
    let phone: String = sqlx::query_scalar("select phone_e164 from messages where state = 6")
        .fetch_optional(&world.pool)
        .await?
        .context("one failed")?;
    let cause: String = sqlx::query_scalar("select reason from suppressions where phone_e164 = $1")
        .bind(&phone)
        .fetch_one(&world.pool)
        .await?;
    ensure!(cause == "opt_out");
    world.is_sound().await
}

#[tokio::test]
async fn what_can_not_be_sent_is_skipped_with_its_reason_and_stops_nobody() -> Result<()> {
    let world = World::new("unsendable").await?;
    world.contacts(20).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    // As ledgers of another version may have them.
    world.execute("update messages set vars = array[''] where position <= 3").await?;
    world.execute("update messages set vars = array[repeat('x', 1600)] where position = 4").await?;
    world.finish(campaign.id).await?;
    ensure!(world.provider.accepted().len() == 16);
    ensure!(world.count("select count(*) from messages where state = 9 and code = 'no_value'").await? == 3);
    ensure!(world.count("select count(*) from messages where state = 9 and code = 'too_long'").await? == 1);
    world.is_sound().await
}

#[tokio::test]
async fn a_refused_message_costs_nothing_and_gives_the_phones_turn_back() -> Result<()> {
    let world = World::new("refused").await?;
    world.contacts(10).await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    world.provider.answer_next([refusal(Outcome::Failed, None)]);
    world.finish(campaign.id).await?;
    ensure!(world.count("select count(*) from messages where state = 6 and cost_micros = 0").await? == 1);
    ensure!(world.count("select sum(cost_micros) from messages").await? == 9 * 5_100);
    ensure!(world.count("select count(*) from phone_sends where marketing_campaign is not null").await? == 9);
    world.is_sound().await
}

#[tokio::test]
async fn what_failed_for_a_reason_that_may_pass_is_sent_again_when_a_person_says_so() -> Result<()> {
    let world = World::new("retry").await?;
    world.contacts(30).await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    let Submission::NotAccepted(mut passing) = refusal(Outcome::Failed, None) else { unreachable!() };
    passing.verdict.repeatable = true;
    world.provider.answer_next([
        Submission::NotAccepted(passing.clone()),
        Submission::NotAccepted(passing),
        refusal(Outcome::Failed, None),
    ]);
    let ended = world.finish(campaign.id).await?;
    let mut transaction = world.pool.begin().await?;
    let decided = decide(&mut transaction, &ended, Which::Failed, Order::Resend, 0, false, "ana").await?;
    transaction.commit().await?;
    ensure!(decided.messages == 2, "{decided:?}");
    ensure!(world.campaign(campaign.id).await?.state == State::Running);
    world.finish(campaign.id).await?;
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 29);
    ensure!(world.in_state(&campaign, MessageState::Failed.code()).await? == 1);
    world.is_sound().await
}

/// A job that loses its lease, or whose process drains, is dropped at an await. What a provider says is written all the same.
#[tokio::test]
async fn answers_are_written_after_the_end_of_their_job() -> Result<()> {
    let world = World::new("outlive").await?;
    world.contacts(40).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.answer_after(Duration::from_millis(1_500));
    world.round().await?;
    let job: Uuid = sqlx::query_scalar("select id from jobs where kind = 'sms.slices' limit 1")
        .fetch_one(&world.pool)
        .await?;
    let runner = Runner::new(world.pool.clone()).lease(Duration::from_secs(1));
    let (work, token) = (world.sender(), CancellationToken::new());
    tokio::select! {
        ran = runner.run(job, &token, &work) => anyhow::bail!("it left before its requests: {}", ran.is_ok()),
        () = world.provider.has_accepted(1) => {}
    }
    work.under_way.close();
    tokio::time::timeout(LIMIT, work.under_way.wait()).await?;
    let made = world.provider.accepted().len() as i64;
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == made);
    world.is_sound().await
}

/// The job does not wait for answers that come late: they end its slice.
#[tokio::test]
async fn late_answers_end_the_slice_that_their_job_has_left() -> Result<()> {
    let world = World::new("lateanswers").await?;
    world.contacts(20).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.answer_after(Duration::from_secs(5));
    world.round().await?;
    let (runner, token) = (Runner::new(world.pool.clone()), CancellationToken::new());
    let work = world.sender();
    for id in world.waiting("sms.slices").await? {
        runner.run(id, &token, &work).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    ensure!(world.in_state(&campaign, MessageState::Submitting.code()).await? == 20, "it waited for them");
    ensure!(world.count("select count(*) from slices where state = 'waiting'").await? > 0);
    work.under_way.close();
    tokio::time::timeout(LIMIT, work.under_way.wait()).await?;
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 20);
    ensure!(world.count("select count(*) from slices where state <> 'done'").await? == 0);
    world.round().await?;
    ensure!(world.campaign(campaign.id).await?.state == State::Completed);
    world.is_sound().await
}

/// The row of the message that is answered first is refused by the database, however often it is written.
#[tokio::test]
async fn an_answer_that_can_not_be_written_keeps_no_later_one_from_it() -> Result<()> {
    let world = World::new("oddrow").await?;
    world.contacts(20).await?;
    // All in one slice.
    world.execute("update contacts set state_code = 'SON'").await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let partition: String = sqlx::query_scalar("select tableoid::regclass::text from messages limit 1")
        .fetch_one(&world.pool)
        .await?;
    world
        .execute(&format!(
            "create function refuse_it() returns trigger language plpgsql as $$
             begin raise exception 'an odd row'; end $$;
             create trigger odd before update on {partition} for each row when (new.state = 6)
                 execute function refuse_it()"
        ))
        .await?;
    world.provider.answer_after(Duration::from_secs(2));
    world.provider.answer_next([refusal(Outcome::Failed, None)]);
    world.round().await?;
    let (runner, token, work) = (Runner::new(world.pool.clone()), CancellationToken::new(), world.sender());
    for id in world.waiting("sms.slices").await? {
        runner.run(id, &token, &work).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    work.under_way.close();
    tokio::time::timeout(LIMIT, work.under_way.wait()).await?;
    ensure!(world.in_state(&campaign, MessageState::Submitting.code()).await? == 1);
    let accepted = world.in_state(&campaign, MessageState::Accepted.code()).await?;
    ensure!(accepted == 19, "of {} that went out nobody will know", 19 - accepted);
    Ok(())
}

/// A message becomes pending again in one transaction while the job of its slice ends in another.
#[tokio::test]
async fn no_slice_is_done_that_has_a_message_to_send() -> Result<()> {
    let world = World::new("reopen").await?;
    world.contacts(10).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.execute("update messages set state = 6 where position = 1").await?;
    world.round().await?;
    let mut again = world.pool.begin().await?;
    sqlx::query("update messages set state = 0 where position = 1").execute(&mut *again).await?;
    sms_dispatch::storage::slices::open_again(&mut again, campaign.number, &[1]).await?;
    let (sent, committed) = tokio::join!(world.send(), async {
        world.blocked("slices").await?;
        again.commit().await.map_err(anyhow::Error::from)
    });
    committed?;
    ensure!(sent? > 0, "nothing was with workers");
    world.finish(campaign.id).await?;
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 10);
    Ok(())
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_left_alone_for_a_while() -> Result<()> {
    let world = World::new("breaker").await?;
    world.contacts(400).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.provider.refuse(Some(Submission::Unknown { reason: "500".to_owned() }));
    let closed = "select count(*) from sms_providers where closed_at is not null and opens_at > now()";
    let submitting = async || world.in_state(&campaign, MessageState::Submitting.code()).await;
    let is_closed = async || anyhow::Ok(world.count(closed).await? == 1 && submitting().await? == 0);
    world.until("it should be closed", is_closed).await?;
    let unknown = world.in_state(&campaign, MessageState::Unknown.code()).await?;
    let pending = world.in_state(&campaign, MessageState::Pending.code()).await?;
    ensure!(unknown > 0 && pending > 0 && unknown + pending == 400, "{unknown} unknown, {pending} pending");
    world.round().await?;
    ensure!(world.send().await? == 0, "nothing is fed");
    world.is_sound().await
}

#[tokio::test]
async fn the_slowest_campaign_sends_too() -> Result<()> {
    let world = World::new("slowest").await?;
    world.contacts(3).await?;
    world.started(Kind::Cobranza, World::plan(|plan| plan["per_minute"] = 1.into())).await?;
    world.round().await?;
    ensure!(world.send().await? == 1);
    ensure!(world.provider.accepted().len() == 1, "{:?}", world.provider.accepted());
    Ok(())
}
