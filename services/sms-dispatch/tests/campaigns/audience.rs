//! Who becomes a recipient, and why others don't.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chrono::Days;
use sea_orm::sqlx;
use serde_json::json;
use sms_dispatch::{
    domain::campaign::{Kind, State},
    start_campaign::start_campaign,
    storage::{indexes, ledger, totals},
};

use crate::world::World;

#[tokio::test]
async fn who_falls_out_counts_once_by_the_first_reason_that_holds() -> Result<()> {
    let world = World::new("audience").await?;
    world.contacts(1_000).await?;
    // Several reasons at once for some: the first in the order of the rules counts.
    world
        .execute(
            "insert into suppressions (phone_e164, reason, effective_at, source)
                 select phone_e164, 'opt_out', now(), 'test' from contacts where source_id <= 30;
             insert into suppressions (phone_e164, reason, effective_at, source)
                 select phone_e164, 'repep', now(), 'test' from contacts where source_id between 21 and 50;
             insert into suppressions (phone_e164, reason, effective_at, source)
                 select phone_e164, 'repep', now() + interval '1 day', 'test' from contacts where source_id = 900;
             insert into suppressions (phone_e164, reason, effective_at, source)
                 select phone_e164, 'reus', now(), 'test' from contacts where source_id between 36 and 55;
             update contacts set is_valid = false where source_id between 41 and 60;
             update contacts set is_mobile = false where source_id between 51 and 80;
             update contacts set consent = 'unknown' where source_id between 71 and 100;
             update contacts set full_name = ' ' where source_id between 91 and 110",
        )
        .await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    ensure!(campaign.state == State::Running, "{campaign:?}");
    let reasons: Vec<(String, i64)> =
        sqlx::query_as("select reason, contacts from campaign_exclusions order by reason")
            .fetch_all(&world.pool)
            .await?;
    let expected = [
        ("invalid", 5),
        ("landline", 20),
        ("no_consent", 20),
        ("no_value", 10),
        ("opt_out", 30),
        ("repep", 20),
        ("reus", 5),
    ];
    ensure!(reasons == expected.map(|(reason, many)| (reason.to_owned(), many)), "{reasons:?}");
    ensure!((campaign.matched, campaign.recipients, campaign.excluded) == (1_000, 890, 110), "{campaign:?}");
    ensure!(world.count("select count(*) from messages").await? == 890);
    world.is_sound().await?;

    // Collections: no register of advertising, no consent to it; the same otherwise.
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    ensure!(campaign.excluded == 30 + 20 + 20 + 20 - 10 + 10, "{campaign:?}");
    world.is_sound().await
}

#[tokio::test]
async fn slices_share_a_zone_and_cover_all_positions_once() -> Result<()> {
    let world = World::new("slices").await?;
    world.contacts(3_000).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let slices = "select count(*) from slices where last_position - first_position >= 500";
    ensure!(world.count(slices).await? == 0, "no slice has more than 500");
    let covered = "select sum(last_position - first_position + 1) from slices";
    ensure!(world.count(covered).await? == campaign.recipients);
    let zones = "select count(*) from (select s.first_position from slices s join messages m
                     on m.campaign = s.campaign and m.position between s.first_position and s.last_position
                 group by 1 having count(distinct coalesce(m.state_code, 'BCS')) > 1) mixed";
    ensure!(world.count(zones).await? == 0, "of LADA 612 and of no state is Baja California Sur");
    let positions = "select count(distinct position) from messages where position between 1 and 3000";
    ensure!(world.count(positions).await? == 3_000);
    Ok(())
}

#[tokio::test]
async fn a_sample_is_drawn_among_those_that_nothing_excludes() -> Result<()> {
    let world = World::new("sample").await?;
    world.contacts(500).await?;
    world
        .execute(
            "insert into suppressions (phone_e164, reason, effective_at, source)
             select phone_e164, 'manual', now(), 'test' from contacts where source_id <= 400",
        )
        .await?;
    let plan = World::plan(|plan| plan["audience"]["filter"] = json!({ "sample": { "size": 80 } }));
    let campaign = world.started(Kind::Cobranza, plan).await?;
    ensure!((campaign.recipients, campaign.excluded) == (80, 420), "{campaign:?}");
    let drawn = "select contacts from campaign_exclusions where reason = 'not_drawn'";
    ensure!(world.count(drawn).await? == 20);
    Ok(())
}

#[tokio::test]
async fn an_audience_is_less_segments_and_campaigns_and_its_texts_have_their_shares() -> Result<()> {
    let world = World::new("less").await?;
    world.contacts(2_000).await?;
    let first = World::plan(|plan| {
        plan["audience"]["filter"] = json!({ "states": ["SON"] });
        plan["texts"] = json!([{ "text": "Uno", "weight": 3 }, { "text": "Dos", "weight": 1 }]);
    });
    let first = world.started(Kind::Cobranza, first).await?;
    ensure!(first.recipients == 667, "{first:?}");
    let second = "select count(*) from messages where variant = 1";
    let share = world.count(second).await?;
    ensure!((100..240).contains(&share), "{share} of 667 have the second text");
    let rest = World::plan(|plan| plan["audience"]["less_campaigns"] = json!([first.id]));
    let rest = world.started(Kind::Cobranza, rest).await?;
    ensure!(rest.recipients == 2_000 - 667, "{rest:?}");
    Ok(())
}

#[tokio::test]
async fn a_campaign_starts_without_the_people_of_one_that_somebody_is_changing() -> Result<()> {
    let world = World::new("lessheld").await?;
    world.contacts(30).await?;
    let first = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let mut changes = world.pool.begin().await?;
    sqlx::query("select from campaigns where id = $1 for update")
        .bind(first.id)
        .execute(&mut *changes)
        .await?;
    let rest = World::plan(|plan| plan["audience"]["less_campaigns"] = json!([first.id]));
    let rest = world.draft(Kind::Cobranza, rest).await?;
    let mut transaction = world.pool.begin().await?;
    let starts = start_campaign(&mut transaction, &rest, "ana", None, "https://lote.mx");
    // A statement that waits for a lock fails later.
    let started = tokio::time::timeout(Duration::from_secs(20), starts).await??;
    ensure!(started.state == State::Preparing, "{started:?}");
    transaction.commit().await?;
    Ok(changes.rollback().await?)
}

/// A load into an empty table has them away: each window would read all contacts.
#[tokio::test]
async fn an_audience_waits_while_the_contacts_have_not_all_of_their_indexes() -> Result<()> {
    let world = World::new("noindexes").await?;
    world.contacts(40).await?;
    let index = indexes::ALL.last().context("an index")?;
    world.execute(&index.drop()).await?;
    let draft = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    let mut transaction = world.pool.begin().await?;
    start_campaign(&mut transaction, &draft, "ana", None, "https://lote.mx").await?;
    transaction.commit().await?;
    // It has looked more than once by then.
    let early = tokio::time::timeout(Duration::from_secs(3), world.prepare()).await;
    ensure!(early.is_err(), "it has not waited");
    ensure!(world.count("select count(*) from messages").await? == 0);
    ensure!(world.campaign(draft.id).await?.state == State::Preparing);

    world.execute(&index.create()).await?;
    // Its worker was dropped: as if its lease were over.
    world
        .execute("update jobs set lease_until = now() - interval '1 second' where state = 'running'")
        .await?;
    world.prepare().await?;
    let campaign = world.campaign(draft.id).await?;
    ensure!(campaign.state == State::Running && campaign.recipients == 40, "{campaign:?}");
    world.is_sound().await
}

#[tokio::test]
async fn an_audience_above_its_limit_fails_and_sends_nothing() -> Result<()> {
    let world = World::new("limit").await?;
    world.contacts(50).await?;
    let plan = World::plan(|plan| plan["most_recipients"] = json!(49));
    let campaign = world.started(Kind::Cobranza, plan).await?;
    ensure!(campaign.state == State::Failed, "{campaign:?}");
    ensure!(campaign.reason.as_ref().is_some_and(|reason| reason.contains("49")), "{campaign:?}");
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Failed && world.provider.accepted().is_empty());
    Ok(())
}

#[tokio::test]
async fn ledgers_past_retention_are_dropped_and_their_totals_stay() -> Result<()> {
    let world = World::new("retention").await?;
    world.contacts(20).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let day = campaign.date.context("a started campaign has its day")?;
    ensure!(ledger::drop_before(&world.pool, day).await? == 0, "its own day stays");
    ensure!(ledger::drop_before(&world.pool, day + Days::new(1)).await? == 1);
    ensure!(world.count("select count(*) from messages").await? == 0);
    ensure!(
        totals::of(&world.pool, campaign.number).await?.iter().map(|total| total.messages).sum::<i64>() == 20
    );
    world.is_sound().await
}

/// A contact that was replaced while the ledger was written comes back under another id, behind the window that had it.
#[tokio::test]
async fn a_phone_that_comes_back_under_another_id_counts_as_repeated() -> Result<()> {
    let world = World::new("repeated").await?;
    world.contacts(40).await?;
    // Who is repeated is no recipient, of whom there may be so many.
    let plan = World::plan(|plan| plan["most_recipients"] = json!(50));
    let campaign = world.started(Kind::Cobranza, plan).await?;
    world.execute("delete from contacts").await?;
    world.contacts(50).await?;
    world
        .execute(
            "update campaigns set state = 'preparing';
             update jobs set state = 'pending', next_run_at = now(), finished_at = null, result = null
             where kind = 'sms.audiences'",
        )
        .await?;
    world.prepare().await?;
    let campaign = world.campaign(campaign.id).await?;
    ensure!((campaign.matched, campaign.recipients, campaign.excluded) == (90, 50, 40), "{campaign:?}");
    let repeated = "select contacts from campaign_exclusions where reason = 'repeated'";
    ensure!(world.count(repeated).await? == 40);
    world.is_sound().await
}
