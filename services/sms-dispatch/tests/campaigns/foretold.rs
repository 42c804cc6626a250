//! What a campaign would come to, and that it comes to that.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use sea_orm::sqlx;
use serde_json::json;
use sms_dispatch::{
    campaign_preview::{self, Preview, worst_costs},
    campaigns as acts,
    domain::{
        campaign::{Action, Kind, State},
        message_state::MessageState,
        money::Money,
        sender::{ProviderName, SenderKind},
    },
    start_campaign::start_campaign,
    storage::{audiences::Audience, campaigns::Campaign, expected, prices, senders},
    texts::Texts,
};

use crate::world::{SENDER, World};

async fn preview(world: &World, draft: &Campaign) -> Result<Preview> {
    Ok(campaign_preview::preview(&world.pool, &world.settings, draft).await?)
}

/// What the ledger says of who was left out.
async fn exclusions(world: &World, campaign: &Campaign) -> Result<BTreeMap<String, i64>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select reason, contacts from campaign_exclusions where campaign = $1")
            .bind(campaign.number)
            .fetch_all(&world.pool)
            .await?;
    Ok(rows.into_iter().collect())
}

/// Contacts that fall out for all kinds of reasons, several at once.
async fn mixed(world: &World) -> Result<()> {
    world.contacts(1_000).await?;
    world
        .execute(
            "insert into suppressions (phone_e164, reason, effective_at, source)
                 select phone_e164, 'opt_out', now(), 'test' from contacts where source_id <= 30;
             insert into suppressions (phone_e164, reason, effective_at, source)
                 select phone_e164, 'repep', now(), 'test' from contacts where source_id between 21 and 50;
             update contacts set is_valid = false where source_id between 41 and 60;
             update contacts set is_mobile = false where source_id between 51 and 80;
             update contacts set consent = 'unknown' where source_id between 71 and 100;
             update contacts set full_name = ' ' where source_id between 91 and 110;
             insert into phone_sends (phone_e164, marketing_campaign, marketing_at)
                 select phone_e164, 0, now() from contacts where source_id between 105 and 120",
        )
        .await
}

#[tokio::test]
async fn a_preview_counts_whom_the_ledger_will_have_and_whom_it_will_not() -> Result<()> {
    let world = World::new("preview").await?;
    mixed(&world).await?;
    for (kind, sample) in [(Kind::Marketing, false), (Kind::Cobranza, false), (Kind::Marketing, true)] {
        let plan = World::plan(|plan| {
            if sample {
                plan["audience"]["filter"] = json!({ "sample": { "size": 300, "order": "newest" } });
            }
        });
        let draft = world.draft(kind, plan.clone()).await?;
        let told = preview(&world, &draft).await?.audience;
        ensure!(told.exact);
        let campaign = world.started(kind, plan).await?;
        ensure!(
            (told.matched, told.recipients()) == (campaign.matched, campaign.recipients),
            "{told:?} {campaign:?}"
        );
        let excluded: BTreeMap<String, i64> = told.excluded.into_iter().collect();
        ensure!(excluded == exclusions(&world, &campaign).await?, "{kind:?}: {excluded:?}");
        let mut by_state: BTreeMap<Option<String>, i64> = BTreeMap::new();
        for group in told.groups {
            *by_state.entry(group.state_code).or_default() += group.recipients;
        }
        let ledger: Vec<(Option<String>, i64)> =
            sqlx::query_as("select state_code, count(*) from messages where campaign = $1 group by 1")
                .bind(campaign.number)
                .fetch_all(&world.pool)
                .await?;
        ensure!(by_state == ledger.into_iter().collect(), "{by_state:?}");
    }
    // Once it has started its ledger says what it comes to.
    let started = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    ensure!(preview(&world, &started).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_sample_of_all_pages_says_what_counting_says_and_calls_it_an_estimate() -> Result<()> {
    let world = World::new("sampled").await?;
    mixed(&world).await?;
    let plan = World::plan(|plan| plan["audience"]["filter"] = json!({ "sample": { "size": 300 } }));
    let draft = world.draft(Kind::Marketing, plan.clone()).await?;
    let mut conn = world.pool.acquire().await?;
    let frozen = acts::freeze(&mut conn, &draft, chrono::Utc::now(), "https://lote.mx").await?;
    let texts = Texts::of(&plan, None)?;
    let audience = Audience::of(&draft, acts::day(&plan, frozen.at), &frozen, texts.names(), &[1], &[]);
    let all = expected::expected(&mut conn, &audience).await?.context("counted")?;
    let some = expected::sampled(&mut conn, &audience, 100.0).await?.context("estimated")?;
    ensure!(all.exact && !some.exact);
    ensure!((all.matched, all.recipients()) == (1_000, 300), "{all:?}");
    ensure!((some.matched, some.recipients()) == (1_000, 300), "{some:?}");
    let reasons = |of: &expected::Expected| of.excluded.iter().cloned().collect::<BTreeMap<_, _>>();
    ensure!(reasons(&all) == reasons(&some), "{some:?}");
    Ok(())
}

#[tokio::test]
async fn parts_are_counted_where_nothing_varies_and_transliteration_says_what_it_saves() -> Result<()> {
    let world = World::new("parts").await?;
    world.contacts(300).await?;
    // 100 letters, one of which costs the second alphabet: two parts, or one.
    let text = format!("Atención: í{}", "a".repeat(89));
    let plan = World::plan(|plan| plan["texts"] = json!([{ "text": text }]));
    let draft = world.draft(Kind::Cobranza, plan).await?;
    let told = preview(&world, &draft).await?;
    ensure!((told.parts.total, told.parts.exact) == (600.0, true), "{:?}", told.parts);
    ensure!(told.parts.as_written - told.parts.transliterated == 300.0, "{:?}", told.parts);
    ensure!(told.costs == BTreeMap::from([("USD".to_owned(), 600.0 * 5_100.0)]), "{:?}", told.costs);
    ensure!(told.per_second == Some(4_500.0) && told.ends_at.is_some(), "{told:?}");
    ensure!(told.shown.len() == 5 && told.shown.iter().all(|one| one.text == text));

    let named = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    let told = preview(&world, &named).await?;
    ensure!(
        !told.parts.exact && told.parts.sampled == 300 && told.parts.total.round() == 300.0,
        "{:?}",
        told.parts
    );
    // A message of a link has it counted, each as long as every other.
    let linked = World::plan(|plan| plan["texts"] = json!([{ "text": "Baja: {baja}" }]));
    let linked = world.draft(Kind::Cobranza, linked).await?;
    let told = preview(&world, &linked).await?;
    let url = format!("Baja: {}/b/", world.settings.public_url);
    ensure!(told.parts.exact && told.shown.iter().all(|one| one.text.len() == url.len() + 24), "{told:?}");
    Ok(())
}

async fn cheaper(world: &World, price: Option<(i64, String)>) -> Result<()> {
    let values = senders::SenderValues {
        address: SENDER.to_owned(),
        provider: ProviderName::Telnyx,
        kind: SenderKind::LongCode,
        per_second: 5_000.0,
        price,
        enabled: true,
    };
    senders::put(&mut *world.pool.acquire().await?, &values, "test").await?;
    Ok(())
}

#[tokio::test]
async fn a_sender_without_a_price_has_the_lists_and_a_campaign_keeps_what_held_at_its_start() -> Result<()> {
    let world = World::new("prices").await?;
    world.contacts(20).await?;
    cheaper(&world, None).await?;
    let mut conn = world.pool.acquire().await?;
    let today = acts::day(&World::plan(|_| ()), chrono::Utc::now());
    let values = |kind, micros| prices::PriceValues {
        provider: ProviderName::Telnyx,
        kind,
        valid_from: today,
        valid_until: None,
        price: Money { micros, currency: *b"MXN" },
    };
    ensure!(prices::insert(&mut conn, &values(None, 900), "ana").await?.is_some());
    ensure!(prices::insert(&mut conn, &values(None, 901), "ana").await?.is_none(), "one a day");
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let long_code = values(Some(SenderKind::LongCode), 700);
    prices::insert(&mut conn, &long_code, "ana").await?;
    let later = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    for (campaign, price) in [(&campaign, 900), (&later, 700)] {
        world.finish(campaign.id).await?;
        let cost = "select sum(cost_micros) from messages where campaign = ";
        ensure!(world.count(&format!("{cost}{}", campaign.number)).await? == 20 * price);
        let sender = campaign.frozen.as_ref().and_then(|frozen| frozen.senders.first());
        ensure!(sender.is_some_and(|sender| sender.currency.as_deref() == Some("MXN")), "{sender:?}");
    }
    // A budget in another currency than the prices' means nothing.
    let plan = World::plan(|plan| plan["most_cost"] = json!({ "micros": 1, "currency": "USD" }));
    let draft = world.draft(Kind::Cobranza, plan).await?;
    let mut transaction = world.pool.begin().await?;
    let refused = start_campaign(&mut transaction, &draft, "ana", None, "https://lote.mx").await;
    ensure!(matches!(refused, Err(acts::Refused::NoPrice { .. })), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_campaign_never_costs_more_than_it_may_and_says_what_it_waits_for() -> Result<()> {
    let world = World::new("budget").await?;
    world.contacts(900).await?;
    let plan = World::plan(|plan| plan["most_cost"] = json!({ "micros": 5_100 * 130, "currency": "USD" }));
    let campaign = world.started(Kind::Marketing, plan).await?;
    // Two slices at once, whose batches come to more together than either alone.
    let spent = async || {
        let waits = world.campaign(campaign.id).await?.waiting.as_deref() == Some("presupuesto");
        anyhow::Ok(waits && world.provider.accepted().len() >= 130)
    };
    world.until("it should be spent", spent).await?;
    ensure!(world.provider.accepted().len() == 130, "{} went out", world.provider.accepted().len());
    ensure!(world.campaign(campaign.id).await?.waiting.as_deref() == Some("presupuesto"));
    ensure!(world.count("select count(*) from slices where state = 'waiting' and reason is null").await? > 0);
    let turns = "select count(*) from phone_sends where marketing_at is not null";
    ensure!(world.count(turns).await? == 130, "who was not written to may be by another campaign");
    world.is_sound().await?;
    world.act(campaign.id, Action::Cancel).await?;
    world.execute("update slices set due_at = now() where state = 'waiting'").await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Cancelled);
    ensure!(world.in_state(&campaign, MessageState::Cancelled.code()).await? == 770);
    world.is_sound().await
}

#[tokio::test]
async fn what_a_message_can_cost_at_the_worst_is_no_less_than_what_it_costs() -> Result<()> {
    let world = World::new("worst").await?;
    world.contacts(30).await?;
    let draft = world.draft(Kind::Cobranza, World::plan(|_| ())).await?;
    let mut conn = world.pool.acquire().await?;
    let frozen = acts::freeze(&mut conn, &draft, chrono::Utc::now(), "https://lote.mx").await?;
    let worst = worst_costs(&draft, &frozen)?;
    ensure!(worst.get("USD").is_some_and(|micros| *micros >= 5_100), "{worst:?}");
    Ok(())
}

#[tokio::test]
async fn each_message_has_a_link_of_its_own_that_stays_the_same() -> Result<()> {
    let world = World::new("links").await?;
    world.contacts(50).await?;
    let plan = World::plan(|plan| plan["texts"] = json!([{ "text": "Hola {nombre}. Baja: {baja}" }]));
    let campaign = world.started(Kind::Cobranza, plan).await?;
    world.finish(campaign.id).await?;
    let accepted = world.provider.accepted();
    let links: std::collections::BTreeSet<String> = accepted
        .values()
        .flatten()
        .filter_map(|message| message.text.split_once("https://lote.mx/b/"))
        .map(|(_, token)| token.to_owned())
        .collect();
    ensure!(links.len() == 50, "{links:?}");
    // Report was told the same texts.
    let told: String =
        sqlx::query_scalar("select string_agg(body, ' ') from outbox where kind like '%MessagesSettled'")
            .fetch_one(&world.pool)
            .await?;
    ensure!(links.iter().all(|token| told.contains(token)));
    Ok(())
}
