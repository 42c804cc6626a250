//! From the ledger to the provider, and to report.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use sea_orm::sqlx;
use serde_json::json;
use sms_dispatch::{
    approvals,
    campaigns::Refused,
    config::SmsSettings,
    domain::{
        campaign::{Action, Kind, State},
        message_state::MessageState,
        sender::{ProviderName, SenderKind},
    },
    reports::Reports,
    storage::{campaigns::Campaign, senders, totals},
};

use crate::world::{SENDER, World};

#[tokio::test]
async fn each_recipient_has_one_message_and_report_is_told_of_each() -> Result<()> {
    let world = World::new("sending").await?;
    world.contacts(1_200).await?;
    let campaign = world.started(Kind::Marketing, World::plan(|_| ())).await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Completed, "{ended:?}");
    let accepted = world.provider.accepted();
    ensure!(accepted.len() == 1_200 && accepted.values().all(|messages| messages.len() == 1));
    ensure!(world.in_state(&campaign, MessageState::Accepted.code()).await? == 1_200);
    let one = accepted.values().flatten().next().expect("a message");
    ensure!(one.text.starts_with("Hola "), "{}", one.text);
    world.is_sound().await?;

    let told: Vec<String> =
        sqlx::query_scalar("select kind from outbox order by id").fetch_all(&world.pool).await?;
    let of = |kind: &str| told.iter().filter(|one| one.ends_with(kind)).count();
    ensure!(of("CampaignStarted") == 1 && of("CampaignCompleted") == 1, "{told:?}");
    let rows = "select sum(jsonb_array_length(body::jsonb -> 'data' -> 'rows')) from outbox where kind like '%MessagesSettled'";
    ensure!(world.count(rows).await? == 1_200);
    ensure!(world.count("select count(*) from phone_sends where sends = 1").await? == 1_200);
    Ok(())
}

#[tokio::test]
async fn a_pause_stops_and_a_resume_goes_on_with_the_rest() -> Result<()> {
    let world = World::new("pause").await?;
    world.contacts(600).await?;
    let plan = World::plan(|plan| plan["per_minute"] = json!(600));
    let campaign = world.started(Kind::Cobranza, plan).await?;
    world.round().await?;
    world.act(campaign.id, Action::Pause).await?;
    world.send().await?;
    ensure!(world.provider.accepted().is_empty(), "paused before the first request");
    world.round().await?;
    ensure!(world.send().await? == 0, "nothing is fed while it is paused");
    world.act(campaign.id, Action::Resume).await?;
    world.round().await?;
    let granted = world.count("select sum(granted) from slices where state = 'fed'").await?;
    ensure!(granted == 100, "ten seconds of 600 a minute, not {granted}");
    Ok(())
}

#[tokio::test]
async fn a_cancelled_campaign_sends_nothing_more_and_its_rest_is_settled() -> Result<()> {
    let world = World::new("cancel").await?;
    world.contacts(900).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    world.act(campaign.id, Action::Cancel).await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Cancelled && world.provider.accepted().is_empty(), "{ended:?}");
    ensure!(world.in_state(&campaign, MessageState::Cancelled.code()).await? == 900);
    let told = "select count(*) from outbox where kind like '%CampaignCompleted' and body like '%CANCELADA%'";
    ensure!(world.count(told).await? == 1);
    world.is_sound().await
}

#[tokio::test]
async fn a_scheduled_campaign_begins_at_its_time_and_a_late_one_does_not() -> Result<()> {
    let world = World::new("schedule").await?;
    world.contacts(30).await?;
    let due = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    let late = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    for (id, past) in [(due.id, "null"), (late.id, "now() - interval '1 second'")] {
        world.act(id, Action::Schedule).await?;
        world
            .execute(&format!(
                "update campaigns set start_at = now() - interval '1 minute', expires_at = {past} where id = '{id}'"
            ))
            .await?;
    }
    world.round().await?;
    world.prepare().await?;
    let ended = world.finish(due.id).await?;
    ensure!(ended.state == State::Completed && world.provider.accepted().len() == 30, "{ended:?}");
    let late = world.campaign(late.id).await?;
    ensure!(late.state == State::Cancelled && late.date.is_none() && late.reason.is_some(), "{late:?}");
    let told = format!(
        "select count(*) from outbox
         where kind like '%CampaignCompleted' and body like '%CANCELADA%' and body like '%{}%'",
        late.id
    );
    ensure!(world.count(&told).await? == 1, "whoever waits for its hour hears nothing of it");
    Ok(())
}

/// Who scheduled it was alone, and let go as few; when its time comes they are more.
#[tokio::test]
async fn a_scheduled_campaign_that_has_grown_does_not_begin_unless_somebody_else_has_approved_it()
-> Result<()> {
    let mut world = World::new("grown").await?;
    world.settings = Arc::new(SmsSettings { approve_above: 20, ..(*world.settings).clone() });
    world.contacts(21).await?;
    let counted = "refresh materialized view contact_cube";
    world.execute("update contacts set status = 'INACTIVE' where source_id = 21").await?;
    world.execute(counted).await?;
    let alone = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    let seen = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    for draft in [&alone, &seen] {
        approvals::check(&mut *world.pool.acquire().await?, &world.settings, draft).await?;
        world.act(draft.id, Action::Schedule).await?;
    }
    world.execute("update contacts set status = 'ACTIVE'").await?;
    world.execute(counted).await?;
    let approved = "update campaigns set approved_by = 'eva', approved_at = now()";
    world.execute(&format!("{approved} where id = '{}'", seen.id)).await?;
    world.execute("update campaigns set start_at = now() - interval '1 minute'").await?;
    world.round().await?;
    let (alone, seen) = (world.campaign(alone.id).await?, world.campaign(seen.id).await?);
    let told = alone.reason.as_deref().is_some_and(|why| why.contains("21 personas, por encima de 20"));
    ensure!(alone.state == State::Cancelled && alone.date.is_none() && told, "{alone:?}");
    ensure!(seen.state == State::Preparing, "{seen:?}");
    // Whoever edited it last can't be the one who looked at it.
    let mine = Campaign { approved_by: Some(seen.edited_by.clone()), ..seen };
    let refused = approvals::check(&mut *world.pool.acquire().await?, &world.settings, &mine).await;
    ensure!(matches!(refused, Err(Refused::NeedsApproval(_))), "{refused:?}");
    Ok(())
}

/// Whom it reaches is counted again when it begins.
#[tokio::test]
async fn a_scheduled_campaign_that_can_not_be_counted_now_keeps_no_other_from_being_sent() -> Result<()> {
    let world = World::new("uncounted").await?;
    world.contacts(30).await?;
    let due = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    world.act(due.id, Action::Schedule).await?;
    world.execute("update campaigns set start_at = now() - interval '1 minute'").await?;
    world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    // Until this ends nobody reads what is counted.
    let mut refresh = world.pool.begin().await?;
    sqlx::query("refresh materialized view contact_cube").execute(&mut *refresh).await?;
    // A feeder whose round lasts longer than that begins another.
    tokio::time::timeout(Duration::from_secs(25), world.round()).await??;
    ensure!(world.count("select count(*) from slices where state = 'fed'").await? > 0);
    ensure!(world.campaign(due.id).await?.state == State::Scheduled);
    refresh.rollback().await?;
    world.round().await?;
    ensure!(world.campaign(due.id).await?.state == State::Preparing);
    Ok(())
}

#[tokio::test]
async fn a_campaign_that_is_cancelled_while_its_ledger_is_written_has_no_row_left_to_send() -> Result<()> {
    let world = World::new("cancelearly").await?;
    world.contacts(200).await?;
    let draft = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    let mut transaction = world.pool.begin().await?;
    sms_dispatch::start_campaign::start_campaign(&mut transaction, &draft, "ana", None, "https://lote.mx")
        .await?;
    transaction.commit().await?;
    world.act(draft.id, Action::Cancel).await?;
    let ended = world.finish(draft.id).await?;
    ensure!(ended.state == State::Cancelled);
    // The job comes late: what it would write is not committed.
    world.prepare().await?;
    ensure!(world.count("select count(*) from messages").await? == 0);
    world.is_sound().await
}

#[tokio::test]
async fn what_messages_cost_is_never_added_across_currencies() -> Result<()> {
    let world = World::new("currencies").await?;
    world.contacts(40).await?;
    let values = senders::SenderValues {
        address: "LOTE".to_owned(),
        provider: ProviderName::Telnyx,
        kind: SenderKind::Alphanumeric,
        per_second: 5_000.0,
        price: Some((90_000, "MXN".to_owned())),
        enabled: true,
    };
    senders::put(&mut *world.pool.acquire().await?, &values, "test").await?;
    let plan = World::plan(|plan| plan["senders"] = json!([{ "address": SENDER }, { "address": "LOTE" }]));
    let campaign = world.started(Kind::Cobranza, plan).await?;
    world.finish(campaign.id).await?;
    let through = "select count(*) from messages where sender = 'LOTE'";
    let through = world.count(through).await?;
    ensure!((1..40).contains(&through), "{through} of 40 went out as LOTE");
    let costs = totals::costs(&world.pool, campaign.number).await?;
    let expected = [("MXN".to_owned(), through * 90_000), ("USD".to_owned(), (40 - through) * 5_100)];
    ensure!(costs == expected, "{costs:?}");

    // A provider says what it took, in its own currency; what no message costs is none.
    let messages = world.messages(&campaign).await?;
    world.reported(messages[0].0, 1, &messages[0].1, "delivered", ("0.25", "EUR")).await?;
    world.reported(messages[1].0, 1, &messages[1].1, "delivered", ("9000000000000", "EUR")).await?;
    Reports::new(world.pool.clone()).statuses().await?;
    ensure!(world.in_state(&campaign, MessageState::Delivered.code()).await? == 2);
    let costs = totals::costs(&world.pool, campaign.number).await?;
    ensure!(costs.iter().any(|cost| *cost == ("EUR".to_owned(), 250_000)) && costs.len() == 3, "{costs:?}");
    world.is_sound().await?;
    // What was spent before prices had currencies counts for every budget.
    let spent = async |currency: &str| -> Result<i64> {
        Ok(totals::cost_held(&mut *world.pool.begin().await?, campaign.number, currency).await?)
    };
    let before = spent("USD").await?;
    ensure!(before == (40 - through) * 5_100, "{before}");
    let old = "insert into campaign_costs (campaign, currency, cost_micros) values ($1, '', 7)";
    sqlx::query(old).bind(campaign.number).execute(&world.pool).await?;
    ensure!(spent("USD").await? == before + 7 && spent("PEN").await? == 7);
    let undo = "delete from campaign_costs where campaign = $1 and currency = ''";
    sqlx::query(undo).bind(campaign.number).execute(&world.pool).await?;
    while totals::fold(&world.pool).await? {}
    ensure!(totals::costs(&world.pool, campaign.number).await? == costs, "folding changes no sum");
    world.is_sound().await
}
