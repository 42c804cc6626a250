//! When messages go: at the rate, and only while somebody feeds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use chassis::{
    config::{DatabaseSettings, RedisSettings, Secret},
    db,
    redis::Redis,
};
use sea_orm::sqlx;
use serde_json::json;
use sms_dispatch::{
    SERVICE,
    advisory_lock::{AdvisoryLock, FEEDER},
    buckets::Buckets,
    domain::{
        campaign::{Kind, State},
        message_state::MessageState,
        pace::{Ask, Bucket},
        sender::ProviderName,
    },
    feeder::Feeder,
    providers::messaging::{Outcome, Refusal, Submission, Verdict},
    reports::Reports,
    storage::providers,
};
use stack::{Namespace, proxy::Proxy};
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// As by SIGSTOP, or when a machine is gone without a word: its connection stays, and nobody uses it.
#[tokio::test]
async fn who_feeds_and_says_nothing_more_is_followed_by_another() -> Result<()> {
    let world = World::new("stoppedfeeder").await?;
    world.contacts(3).await?;
    world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let stopped = AdvisoryLock::try_take_lapsing(&world.pool, FEEDER, Duration::from_secs(1)).await?;
    let mut stopped = stopped.context("nobody feeds")?;
    let shutdown = CancellationToken::new();
    let feeder = Feeder::new(world.pool.clone(), Arc::clone(&world.settings));
    let feeds = tokio::spawn(feeder.run(shutdown.clone()));
    let began = Instant::now();
    while world.count("select count(*) from slices where state = 'fed'").await? == 0 {
        ensure!(began.elapsed() < Duration::from_secs(20), "nobody feeds");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(stopped.holds().await.is_err(), "it would go on feeding when it wakes");
    shutdown.cancel();
    feeds.await?;
    Ok(())
}

/// As where its host is gone: what was asked is never answered, and who asks must not wait for ever.
#[tokio::test]
async fn a_lock_is_given_up_in_time_where_the_server_says_nothing_more() -> Result<()> {
    stack::install_tls();
    let namespace = Namespace::create("silentlock").await?;
    let (proxy, url) = Proxy::before(&namespace.database_url).await?;
    let pool =
        db::connect(&DatabaseSettings::at(url.as_str()), SERVICE, &CancellationToken::new()).await?.pool;
    let lock = AdvisoryLock::try_take(&pool, FEEDER).await?.context("nobody has it")?;
    proxy.stall().await;
    let ended =
        tokio::time::timeout(Duration::from_secs(20), lock.end()).await.context("it waits for ever")?;
    ensure!(ended.is_err(), "nobody answered");
    Ok(())
}

/// The database keeps claims waiting: what was to start meanwhile starts at the rate all the same.
#[tokio::test]
async fn in_no_second_more_goes_than_the_rate_however_slow_a_claim_was() -> Result<()> {
    let world = World::new("burst").await?;
    world.contacts(600).await?;
    let plan = World::plan(|plan| plan["per_minute"] = 6_000.into());
    let campaign = world.started(Kind::Cobranza, plan).await?;
    // While Redis does not answer in time each takes its share.
    let workers = "insert into workers (id, service, host, pid, version, queues, working)
                   select gen_random_uuid(), 'sms-dispatch', 'a', n, '0', '{}', '[]' from generate_series(1, 2) n";
    world.execute(workers).await?;
    let mut holder = world.pool.begin().await?;
    sqlx::query("lock table suppressions in access exclusive mode").execute(&mut *holder).await?;
    world.round().await?;
    let (sent, released) = tokio::join!(world.send_with(2), async {
        world.blocked("suppressions").await?;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        holder.rollback().await.map_err(anyhow::Error::from)
    });
    released?;
    ensure!(sent? > 0);
    world.finish(campaign.id).await?;
    let asked = world.provider.asked();
    ensure!(asked.len() == 600 && world.provider.accepted().len() == 600, "{}", asked.len());
    let second = Duration::from_secs(1);
    let worst =
        asked.iter().map(|from| asked.iter().filter(|at| **at >= *from && **at < *from + second).count());
    let worst = worst.max().unwrap_or_default();
    ensure!(worst <= 106, "{worst} in a second, at 100 a second");
    world.is_sound().await
}

#[tokio::test]
async fn while_redis_is_away_each_worker_takes_its_share_of_a_rate() -> Result<()> {
    let world = World::new("noredis").await?;
    let nowhere =
        RedisSettings { url: Secret::new("redis://127.0.0.1:1".to_owned()), prefix: "lote".to_owned() };
    let buckets = Buckets::new(Redis::new(&nowhere)?, world.pool.clone());
    let rate = [Bucket { key: "account:telnyx".to_owned(), per_second: 100.0 }];
    let asks = vec![Ask { parts: 1, buckets: vec![0] }; 3];
    let apart = async || {
        let reserved = buckets.reserve(&rate, &asks, Duration::ZERO, Duration::from_secs(60)).await;
        reserved.starts_us.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
    };
    ensure!(apart().await == [10_000, 10_000], "nobody else is there");
    let workers = "insert into workers (id, service, host, pid, version, queues, working)
                   select gen_random_uuid(), 'sms-dispatch', 'a', n, '0', '{}', '[]' from generate_series(1, 4) n";
    world.execute(workers).await?;
    ensure!(apart().await == [40_000, 40_000], "with four workers each has a quarter");
    // Two of them are gone.
    world.execute("update workers set seen_at = now() - interval '1 minute' where pid > 2").await?;
    ensure!(apart().await == [20_000, 20_000]);
    Ok(())
}

#[tokio::test]
async fn attempts_in_which_no_provider_was_asked_do_not_count() -> Result<()> {
    let world = World::new("unasked").await?;
    world.contacts(3).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let verdict = Verdict {
        outcome: Outcome::Later,
        code: None,
        reason: "No hay conexión con el proveedor.".to_owned(),
        suppresses: false,
        landline: false,
        billed: false,
        repeatable: true,
    };
    let pause = Some(Duration::from_millis(1));
    let refusal = Refusal { verdict, pause };
    world.provider.refuse(Some(Submission::NotAccepted(refusal.clone())));
    let unasked = "select count(*) from messages where attempt > 20 and unasked = attempt";
    let often = async || {
        // Who is not reached is left alone for a while. An operator opens it.
        providers::open(&mut *world.pool.acquire().await?, Some(ProviderName::Telnyx)).await?;
        Ok(world.count(unasked).await? == 3)
    };
    world.until("each is tried more than twenty times", often).await?;
    ensure!(
        world.in_state(&campaign, MessageState::Pending.code()).await? == 3,
        "given up without being asked"
    );

    // What a provider refuses itself is given up at some time.
    providers::open(&mut *world.pool.acquire().await?, Some(ProviderName::Telnyx)).await?;
    let mut refusal = refusal;
    refusal.verdict.code = Some(40_318);
    world.provider.refuse(Some(Submission::NotAccepted(refusal)));
    let given_up = async || {
        // As if the time that its sender waits each time were over.
        let free = "update sms_senders set held_until = null; update slices set due_at = now()";
        world.execute(free).await?;
        Ok(world.in_state(&campaign, MessageState::Failed.code()).await? == 3)
    };
    world.until("all are given up", given_up).await?;
    let ended = world.finish(campaign.id).await?;
    ensure!(ended.state == State::Completed);
    ensure!(world.count("select min(attempt - unasked) from messages").await? == 20);
    world.is_sound().await
}

#[tokio::test]
async fn what_a_whole_campaign_waits_for_is_written_once() -> Result<()> {
    let world = World::new("waiting").await?;
    world.contacts(1_200).await?;
    let campaign = world.started(Kind::Cobranza, World::plan(|_| ())).await?;
    let places: &str = "select string_agg(ctid::text, ' ' order by first_position) from slices";
    let before: String = sqlx::query_scalar(places).fetch_one(&world.pool).await?;
    let mut conn = world.pool.acquire().await?;
    providers::close(&mut conn, ProviderName::Telnyx, "Sin fondos", None).await?;
    for _ in 0..3 {
        world.round().await?;
    }
    let after: String = sqlx::query_scalar(places).fetch_one(&world.pool).await?;
    ensure!(before == after, "slices were written");
    let waits = world.campaign(campaign.id).await?;
    ensure!(waits.waiting.as_deref() == Some("proveedor") && waits.version == campaign.version, "{waits:?}");
    providers::open(&mut conn, Some(ProviderName::Telnyx)).await?;
    world.round().await?;
    ensure!(world.campaign(campaign.id).await?.waiting.is_none());
    ensure!(world.count("select count(*) from slices where state = 'fed'").await? > 0);
    Ok(())
}

#[tokio::test]
async fn what_waits_for_money_stands_with_the_campaign_and_goes_when_there_is_some() -> Result<()> {
    let world = World::new("money").await?;
    world.contacts(1_800).await?;
    let most = json!({ "micros": 2 * 5_100, "currency": "USD" });
    let campaign = world.started(Kind::Cobranza, World::plan(|plan| plan["most_cost"] = most)).await?;
    let waits = async || {
        let under_way = world.in_state(&campaign, MessageState::Submitting.code()).await?;
        let waiting = world.campaign(campaign.id).await?.waiting;
        Ok(under_way == 0 && waiting.as_deref() == Some("presupuesto"))
    };
    world.until("it waits for money", waits).await?;
    ensure!(world.provider.accepted().len() == 2, "{}", world.provider.accepted().len());
    // One that found no place for its requests may say that.
    ensure!(world.count("select count(*) from slices where reason = 'presupuesto'").await? == 0);
    ensure!(world.campaign(campaign.id).await?.version == campaign.version);
    // While there is none nothing is written, neither slices nor the campaign.
    let places = "select (select string_agg(ctid::text, ' ' order by first_position) from slices)
                         || (select string_agg(ctid::text, ' ') from campaigns)";
    let before: String = sqlx::query_scalar(places).fetch_one(&world.pool).await?;
    for _ in 0..3 {
        world.round().await?;
        ensure!(world.send().await? == 0, "slices are fed to find out what is known");
    }
    let after: String = sqlx::query_scalar(places).fetch_one(&world.pool).await?;
    ensure!(before == after, "rows were written");

    // One cost less than what was reserved for it.
    let sent = world.provider.accepted().into_values().flatten().next().context("a message")?;
    world.reported(sent.id, 1, &sent.to.to_string(), "delivered", ("0.0000", "USD")).await?;
    Reports::new(world.pool.clone()).statuses().await?;
    world.until("another is sent", async || Ok(world.provider.accepted().len() >= 3)).await?;
    world.until("it waits for money again", waits).await?;
    ensure!(world.provider.accepted().len() == 3, "{}", world.provider.accepted().len());
    world.is_sound().await
}
