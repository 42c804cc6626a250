//! What is deleted when its time is over, and what stays.

use anyhow::{Context as _, Result, ensure};
use chrono::{Days, Utc};
use sms_dispatch::{
    config::Keep,
    domain::campaign::Kind,
    providers::messaging::{Outcome, Refusal, Submission, Verdict},
    retention::{self, Deleted},
    storage::totals,
};

use crate::world::World;

#[tokio::test]
async fn what_is_past_its_time_is_deleted_and_nothing_else() -> Result<()> {
    let world = World::new("retention").await?;
    world.contacts(20).await?;
    let old = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    world.provider.lose_answers(2);
    world.finish(old.id).await?;
    let today = Utc::now().date_naive();
    let keep =
        Keep { ledger_days: 730, inbound_days: 400, reports_days: 90, jobs_days: 30, audiences_days: 30 };
    let people = "insert into inbound_messages (provider, provider_id, phone_e164, sender, text, received_at, handled_at)
         select 'telnyx', n::text, '+526121000007', '+525550001111', 'Hola', now() - make_interval(days => n), now()
         from unnest(array[399, 401]) n;
         insert into help_answers (phone_e164, day, provider, sender)
         select '+526121000007', current_date - n, 'telnyx', '+525550001111' from unnest(array[399, 401]) n;
         insert into provider_reports (provider, url, body, failed_at, error)
         select 'telnyx', '', '{}', now() - make_interval(days => n), 'x' from unnest(array[89, 91]) n;
         insert into phone_sends (phone_e164, sends, last_sent_at)
         select '+52999000000' || n % 10, 1, now() - make_interval(days => n) from unnest(array[729, 731]) n;
         update jobs set finished_at = now() - interval '31 days' where kind = 'sms.audiences'";
    world.execute(people).await?;
    let of_campaign = format!(
        "insert into campaign_outcomes (campaign, ended, failed) values ({0}, 500, 1);
         insert into earlier_attempts (campaign, position, attempt, changed_at, status, variant, parts, cost_micros)
         values ({0}, 1, 1, now(), 2, 0, 0, 0)",
        old.number
    );
    world.execute(&of_campaign).await?;
    ensure!(retention::delete(&world.pool, &keep, today).await? == Deleted { days: 0, rows: 5 });
    for (left, query) in [
        (1, "select count(*) from inbound_messages"),
        (1, "select count(*) from help_answers"),
        (1, "select count(*) from provider_reports"),
        (20 + 1, "select count(*) from phone_sends"),
        (0, "select count(*) from jobs where kind = 'sms.audiences'"),
        (20, "select count(*) from messages"),
        (2, "select count(*) from unheard_messages"),
        (1, "select count(*) from earlier_attempts"),
        (1, "select count(*) from campaign_outcomes where ended = 500"),
    ] {
        ensure!(world.count(query).await? == left, "{query}");
    }

    // The day itself is over: what is a person's goes with it, and what was spent stays known.
    let later = today + Days::new(731);
    let deleted = retention::delete(&world.pool, &keep, later).await?;
    ensure!(deleted.days >= 1, "{deleted:?}");
    for table in [
        "messages",
        "slices",
        "unheard_messages",
        "campaign_sweeps",
        "earlier_attempts",
        "campaign_outcomes",
        "phone_sends",
        "inbound_messages",
        "help_answers",
        "provider_reports",
    ] {
        ensure!(world.count(&format!("select count(*) from {table}")).await? == 0, "{table}");
    }
    let costs = totals::costs(&world.pool, old.number).await?;
    ensure!(costs.first().context("its costs")?.1 == 20 * 5_100, "{costs:?}");
    Ok(())
}

/// Its turn was taken, and given back: nothing of the phone need be known.
#[tokio::test]
async fn a_phone_that_nothing_was_sent_to_is_forgotten() -> Result<()> {
    let world = World::new("forgotten").await?;
    world.contacts(3).await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    let verdict = Verdict {
        outcome: Outcome::Failed,
        code: Some(40_300),
        reason: "Motivo".to_owned(),
        suppresses: false,
        landline: false,
        billed: false,
        repeatable: false,
    };
    world.provider.answer_next([Submission::NotAccepted(Refusal { verdict, pause: None })]);
    world.finish(campaign.id).await?;
    ensure!(world.count("select count(*) from phone_sends").await? == 3);
    retention::delete(&world.pool, &world.settings.keep, Utc::now().date_naive()).await?;
    ensure!(world.count("select count(*) from phone_sends where marketing_at is not null").await? == 2);
    ensure!(world.count("select count(*) from phone_sends").await? == 2, "a row for nothing stays for ever");
    Ok(())
}
