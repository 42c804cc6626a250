//! What providers and people tell us: whatever else goes on, it is applied.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use sea_orm::sqlx;
use sms_dispatch::{
    domain::{campaign::Kind, message_state::MessageState},
    providers::messaging::Submission,
    report_writer::ReportWriter,
    reports::Reports,
    storage::{
        reports::{self, Report},
        suppressions,
    },
};
use uuid::Uuid;

use crate::world::{SENDER, World};

const SOON: Duration = Duration::from_secs(20);
const COST: (&str, &str) = ("0.0051", "USD");

/// A restore has the suppressions' turn, and the contacts, for as long as it takes.
#[tokio::test]
async fn a_stop_suppresses_at_once_whoever_has_the_contacts_turn() -> Result<()> {
    let world = World::new("stopturn").await?;
    world.contacts(2).await?;
    let phones: Vec<String> =
        sqlx::query_scalar("select phone_e164 from contacts order by 1").fetch_all(&world.pool).await?;
    let reports = Reports::new(world.pool.clone());
    let mut restore = world.pool.begin().await?;
    suppressions::turn(&mut restore).await?;
    sqlx::query("lock table contacts in access exclusive mode").execute(&mut *restore).await?;
    let wrote = |phone: &str| {
        let (pool, phone) = (world.pool.clone(), phone.to_owned());
        async move { reports::keep_inbound(&pool, "telnyx", Uuid::new_v4(), &phone, SENDER, "BAJA").await }
    };
    wrote(&phones[0]).await?;
    tokio::time::timeout(SOON, reports.inbound()).await.context("it waits for the turn")??;
    ensure!(world.count("select count(*) from suppressions where reason = 'opt_out'").await? == 1);
    restore.commit().await?;
    let marked = "select count(*) from contacts where opt_out_at is not null";
    ensure!(world.count(marked).await? == 0);
    // Upkeep lets contacts follow; where nobody has the turn they follow at once.
    suppressions::apply_since(&world.pool, Utc::now() - TimeDelta::minutes(1)).await?;
    ensure!(world.count(marked).await? == 1);
    wrote(&phones[1]).await?;
    reports.inbound().await?;
    ensure!(world.count(marked).await? == 2);
    ensure!(world.count("select count(*) from inbound_messages where meaning = 'opt_out'").await? == 2);
    // Other services are told, once.
    wrote(&phones[1]).await?;
    reports.inbound().await?;
    let told = "select count(*) from outbox where kind like '%ContactOptedOut'";
    ensure!(world.count(told).await? == 2);
    Ok(())
}

#[tokio::test]
async fn a_report_that_can_not_be_applied_is_set_aside_and_stops_no_other() -> Result<()> {
    let world = World::new("badreport").await?;
    world.contacts(2).await?;
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
    for campaign in [&broken, &good] {
        for (id, phone) in world.messages(campaign).await? {
            world.reported(id, 1, &phone, "delivered", COST).await?;
        }
    }
    let reports = Reports::new(world.pool.clone());
    for _ in 0..3 {
        reports.statuses().await?;
    }
    ensure!(world.in_state(&good, MessageState::Delivered.code()).await? == 2);
    ensure!(world.in_state(&broken, MessageState::Accepted.code()).await? == 2);
    let aside = "select count(*) from provider_reports where failed_at is not null and error like '%apodo%'";
    ensure!(
        world.count(aside).await? == 2 && world.count("select count(*) from provider_reports").await? == 2
    );
    Ok(())
}

#[tokio::test]
async fn what_is_no_keyword_answers_the_last_campaign_once_however_often_it_comes() -> Result<()> {
    let world = World::new("replies").await?;
    world.contacts(1).await?;
    let first = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(first.id).await?;
    let last = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(last.id).await?;
    let (_, phone) = world.messages(&last).await?.pop().context("a message")?;
    let reports = Reports::new(world.pool.clone());
    let wrote = async |id: Uuid, phone: &str, text: &str| {
        reports::keep_inbound(&world.pool, "telnyx", id, phone, SENDER, text).await?;
        reports.inbound().await
    };
    let question = Uuid::new_v4();
    for _ in 0..2 {
        wrote(question, &phone, "¿Cuánto debo?").await?;
    }
    wrote(Uuid::new_v4(), &phone, "AYUDA").await?;
    // Nobody whom we wrote to.
    wrote(Uuid::new_v4(), "+526121009999", "¿Quién es?").await?;
    let answers = reports::replies(&world.pool, last.number, None, 10).await?;
    let texts: Vec<_> = answers.iter().map(|one| (one.text.as_str(), one.sender.as_str())).collect();
    ensure!(texts == [("¿Cuánto debo?", SENDER)], "{texts:?}");
    ensure!(reports::replies(&world.pool, first.number, None, 10).await?.is_empty());
    let before = Some(answers[0].received_at);
    ensure!(reports::replies(&world.pool, last.number, before, 10).await?.is_empty(), "the next page");
    let nobodys = "select count(*) from inbound_messages where meaning = 'reply' and campaign is null";
    ensure!(world.count(nobodys).await? == 1);
    ensure!(world.count("select count(*) from suppressions").await? == 0);
    Ok(())
}

/// Its id may be one of ours all the same.
#[tokio::test]
async fn a_report_about_another_number_changes_nothing_and_suppresses_nobody() -> Result<()> {
    let world = World::new("othernumber").await?;
    world.contacts(1).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(campaign.id).await?;
    let (id, phone) = world.messages(&campaign).await?.pop().context("a message")?;
    let reports = Reports::new(world.pool.clone());
    for other in ["+526121004799", "+15551234567", ""] {
        world.reported_code(id, 1, other, "delivery_failed", Some(40_300), COST).await?;
        reports.statuses().await?;
        ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 1, "{other:?}");
        ensure!(world.count("select count(*) from suppressions").await? == 0, "{other:?}");
    }
    ensure!(world.count("select count(*) from provider_reports").await? == 0);
    world.reported_code(id, 1, &phone, "delivery_failed", Some(40_300), COST).await?;
    reports.statuses().await?;
    ensure!(world.in_state(&campaign, MessageState::Failed.code()).await? == 1);
    let out =
        format!("select count(*) from suppressions where phone_e164 = '{phone}' and reason = 'opt_out'");
    ensure!(world.count(&out).await? == 1);
    world.is_sound().await
}

/// Reports that come at the same time share a commit: one that no table takes is refused alone, and none is answered for that
/// is not there.
#[tokio::test]
async fn reports_that_are_written_together_are_answered_each_for_itself() -> Result<()> {
    let world = World::new("together").await?;
    let (writer, _task) = ReportWriter::start(world.pool.clone());
    let bodies =
        (0..300).map(|number| if number == 70 { "{\0}".to_owned() } else { format!("{{{number}}}") });
    let keeping = bodies.map(|body| writer.keep(Report { provider: "telnyx", url: String::new(), body }));
    let refused: Vec<usize> = futures::future::join_all(keeping)
        .await
        .iter()
        .enumerate()
        .filter_map(|(number, kept)| kept.is_err().then_some(number))
        .collect();
    ensure!(refused == [70], "{refused:?}");
    ensure!(world.count("select count(distinct body) from provider_reports").await? == 299);
    // Where the database is away, the provider is told to come again.
    world.pool.close().await;
    let late = writer.keep(Report { provider: "telnyx", url: String::new(), body: "{}".to_owned() }).await;
    ensure!(late.as_ref().is_err_and(|problem| problem.status() == 503), "{late:?}");
    Ok(())
}

/// As one does whose host is gone: a statement is never answered. Providers wait for two seconds, and come again.
#[tokio::test]
async fn reports_are_refused_in_time_while_the_database_says_nothing_and_kept_when_it_does() -> Result<()> {
    let world = World::new("silentdb").await?;
    let (writer, _task) = ReportWriter::start(world.pool.clone());
    let keep = || writer.keep(Report { provider: "telnyx", url: String::new(), body: "{}".to_owned() });
    ensure!(keep().await.is_ok());
    let mut holder = world.pool.begin().await?;
    sqlx::query("lock table provider_reports in exclusive mode").execute(&mut *holder).await?;
    let all = futures::future::join_all((0..20).map(|_| keep()));
    let refused = tokio::time::timeout(SOON, all).await.context("providers wait for ever")?;
    ensure!(refused.iter().all(|kept| kept.as_ref().is_err_and(|problem| problem.status() == 503)));
    holder.rollback().await?;
    ensure!(keep().await.is_ok(), "it is there again");
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_is_not_answered_is_given_up_and_its_reports_are_applied_by_the_next() -> Result<()>
{
    let world = World::new("silentlane").await?;
    world.contacts(2).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(campaign.id).await?;
    for (id, phone) in world.messages(&campaign).await? {
        world.reported(id, 1, &phone, "delivered", COST).await?;
    }
    let reports = Reports::new(world.pool.clone()).patience(Duration::from_millis(500));
    let mut holder = world.pool.begin().await?;
    sqlx::query("lock table campaigns in access exclusive mode").execute(&mut *holder).await?;
    let applied = tokio::time::timeout(SOON, reports.statuses()).await.context("it waits for ever")?;
    ensure!(applied.is_err());
    holder.rollback().await?;
    let reports = Reports::new(world.pool.clone());
    let delivered = async {
        // The server has to notice first that nobody waits for the transaction any more.
        while world.in_state(&campaign, MessageState::Delivered.code()).await? < 2 {
            reports.statuses().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, delivered).await.context("nobody applies them")??;
    world.is_sound().await
}

/// Nobody can say which campaigns they answer, for as long as somebody has the ledger.
#[tokio::test]
async fn an_opt_out_waits_for_no_message_to_us_that_came_before_it() -> Result<()> {
    let world = World::new("stopbehind").await?;
    let phone = "+526121000007";
    for number in 0..60 {
        let text = if number == 59 { "BAJA" } else { "Hola" };
        reports::keep_inbound(&world.pool, "telnyx", Uuid::new_v4(), phone, SENDER, text).await?;
    }
    let reports = Reports::new(world.pool.clone());
    let hasty = reports.clone().patience(Duration::from_secs(3));
    let mut holder = world.pool.begin().await?;
    sqlx::query("lock table messages in access exclusive mode").execute(&mut *holder).await?;
    let handled = tokio::time::timeout(SOON, hasty.inbound()).await.context("it waits for ever")?;
    ensure!(handled.is_err(), "nobody had the ledger");
    ensure!(world.count("select count(*) from suppressions where reason = 'opt_out'").await? == 1);
    holder.rollback().await?;
    let rest = async {
        while world.count("select count(*) from inbound_messages where handled_at is null").await? > 0 {
            reports.inbound().await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, rest).await.context("nobody handles them")??;
    ensure!(world.count("select count(*) from inbound_messages where meaning = 'reply'").await? == 59);
    ensure!(
        world.count("select count(*) from outbox where kind like '%ContactOptedOut'").await? == 1,
        "once"
    );
    Ok(())
}

#[tokio::test]
async fn what_no_text_holds_is_replaced_in_messages_to_us() -> Result<()> {
    let world = World::new("nul").await?;
    reports::keep_inbound(&world.pool, "telnyx", Uuid::new_v4(), "+526121000007", "+52\0", "a\0b").await?;
    ensure!(world.count("select count(*) from inbound_messages where sender = e'+52\u{fffd}'").await? == 1);
    Ok(())
}

/// The report of one transaction is about two campaigns: what it does to the phones of both is done in the phones' order.
#[tokio::test]
async fn phones_of_several_campaigns_are_locked_in_one_order() -> Result<()> {
    let world = World::new("order").await?;
    world.contacts(2).await?;
    world.provider.refuse(Some(Submission::Unknown { reason: "500".to_owned() }));
    let one = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let other = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.finish(one.id).await?;
    world.finish(other.id).await?;
    let (first, last) = (&world.messages(&other).await?[0], &world.messages(&one).await?[1]);
    for (id, phone) in [last, first] {
        world.reported(*id, 1, phone, "delivered", COST).await?;
    }
    let mut holder = world.pool.begin().await?;
    let take =
        "insert into phone_sends (phone_e164) values ($1) on conflict (phone_e164) do update set sends = 0";
    sqlx::query(take).bind(&first.1).execute(&mut *holder).await?;
    let reports = Reports::new(world.pool.clone());
    let applied = tokio::spawn(async move { reports.statuses().await });
    world.blocked("phone_sends").await?;
    // Whoever goes by the order of the phones finds the later one free.
    let mut third = world.pool.begin().await?;
    sqlx::raw_sql("set local lock_timeout = '300ms'").execute(&mut *third).await?;
    sqlx::query(take).bind(&last.1).execute(&mut *third).await.context("the later phone is locked first")?;
    third.rollback().await?;
    holder.rollback().await?;
    applied.await??;
    ensure!(world.count("select count(*) from phone_sends where sends = 1").await? == 2);
    world.is_sound().await
}
