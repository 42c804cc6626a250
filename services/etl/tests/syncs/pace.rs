//! Who waits for a turn at Bsale, and for how long.

use std::time::Duration;

use anyhow::{Result, ensure};
use deadpool_redis::redis::cmd;
use etl::bsale::{Bsale, Priority};
use sea_orm::sqlx;
use simulators::bsale::{Fault, Shop, Size};
use stack::wait;
use tokio::task::JoinSet;

use crate::world::{Kind, World};

const PATIENCE: Duration = Duration::from_secs(60);

fn small() -> Shop {
    Shop::new(1, Size { products: 0, clients: 1, days: 0, documents_a_day: 0 })
}

/// Of twenty who waited before somebody more urgent came, few are sent before him: who has a turn already, and whoever has
/// it when he wakes too late for his.
async fn comes_first(label: &str, urgent: Priority, others: Priority) -> Result<()> {
    // Turns are so far apart that a machine which stands still for a moment changes nothing in their order.
    let world = World::with(label, Kind::Postgres, small(), &[("BSALE_REQUESTS_PER_SECOND", "1")]).await?;
    let client = world.ours().client.clone();
    let mut waiting = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        waiting.spawn(async move { client.page("clients.json", &[], 0, others).await.map(drop) });
    }
    wait::until("one should be sent", PATIENCE, async || world.bsale.requests() > 0).await?;
    world.bsale.take_log();
    client.page("products.json", &[], 0, urgent).await?;
    let log = world.bsale.take_log();
    ensure!(log.len() <= 5 && log.iter().any(|line| line.starts_with("/v1/products.json")), "{log:?}");
    Ok(())
}

#[tokio::test]
async fn a_webhook_comes_before_daily_runs() -> Result<()> {
    comes_first("etlhookfirst", Priority::Webhook, Priority::Daily).await
}

#[tokio::test]
async fn a_daily_run_comes_before_a_backfill() -> Result<()> {
    comes_first("etldailyfirst", Priority::Daily, Priority::Backfill).await
}

/// Turns that others took together may be many: whoever is more urgent asks again only when they are over, and is not
/// forgotten until then.
#[tokio::test]
async fn who_is_urgent_is_known_to_wait_until_he_asks_again() -> Result<()> {
    let world = World::new("etlurgent", Kind::Postgres, small()).await?;
    let (client, redis) = (world.ours().client.clone(), &world.resources.redis);
    client.page("clients.json", &[], 0, Priority::Daily).await?;
    let keys = redis.query::<Vec<String>>(cmd("KEYS").arg(redis.key("bucket:*"))).await?;
    let [key] = keys.as_slice() else { anyhow::bail!("one bucket was expected: {keys:?}") };
    let next = chrono::Utc::now().timestamp_micros() + 60_000_000;
    redis.query::<i64>(cmd("HSET").arg(key.as_str()).arg("next").arg(next)).await?;
    let urgent =
        tokio::spawn(async move { client.page("products.json", &[], 0, Priority::Webhook).await.map(drop) });
    let mark = async || redis.query::<Option<f64>>(cmd("HGET").arg(key.as_str()).arg("w0")).await;
    wait::until("it should be known that somebody waits", PATIENCE, async || {
        mark().await.is_ok_and(|mark| mark.is_some())
    })
    .await?;
    let mark = mark().await?;
    urgent.abort();
    ensure!(mark > Some(next as f64), "forgotten at {mark:?}, its turn is at {next}");
    Ok(())
}

#[tokio::test]
async fn after_a_refusal_all_wait_also_where_redis_has_forgotten_it() -> Result<()> {
    let world = World::new("etlcooldown", Kind::Postgres, small()).await?;
    let (pool, redis) = (&world.resources.database.pool, &world.resources.redis);
    let begin = chrono::Utc::now().timestamp_micros() as f64;
    world.bsale.fail_next([Fault::Status(429)]);
    let client = world.ours().client.clone();
    let refused =
        tokio::spawn(async move { client.page("clients.json", &[], 0, Priority::Daily).await.map(drop) });
    let key = async || -> Result<String> {
        let known = "select credential from buckets where cooldown_until is not null";
        let credential: String = sqlx::query_scalar(known).fetch_one(pool).await?;
        Ok(redis.key(&format!("bucket:{credential}")))
    };
    wait::until("both should have noted the refusal", PATIENCE, async || {
        let Ok(key) = key().await else { return false };
        let until = redis.query::<Option<f64>>(cmd("HGET").arg(key).arg("cooldown")).await;
        // Two seconds; at its first turn it was now.
        until.is_ok_and(|until| until > Some(begin + 1_500_000.0))
    })
    .await?;
    // Another process with the same credential, and the most urgent of all.
    let other = Bsale::new(world.ours().settings.clone(), &world.resources.database, redis)?;
    let ask = async || -> Result<bool> {
        other.client.page("clients.json", &[], 0, Priority::Webhook).await?;
        let over = "select clock_timestamp() >= cooldown_until from buckets";
        Ok(sqlx::query_scalar(over).fetch_one(pool).await?)
    };
    ensure!(ask().await?, "asked while all should wait");
    refused.await??;
    // PostgreSQL knows of a refusal, and a Redis that was restarted of nothing.
    let refusal = "update buckets set cooldown_until = clock_timestamp() + interval '3 seconds'";
    sqlx::query(refusal).execute(pool).await?;
    ensure!(redis.query::<i64>(cmd("DEL").arg(key().await?)).await? == 1, "Redis had the bucket");
    ensure!(ask().await?, "asked while all should wait");
    Ok(())
}
