//! The mirror in Redis, up, down and stalled.

mod common;

use std::time::{Duration, Instant};

use anyhow::Result;
use common::PATIENCE;
use contracts::live::{self, LiveEvent};
use deadpool_redis::{Config, Pool, Runtime, redis};
use jobs::mirror::Mirror;
use serde_json::{Value, json};
use stack::{Namespace, proxy::Proxy};

fn pool(url: &str) -> Result<Pool> {
    Ok(Config::from_url(url).create_pool(Some(Runtime::Tokio1))?)
}

fn event(n: i64) -> LiveEvent {
    LiveEvent {
        kind: "job.progress".into(),
        service: "test".into(),
        proveedor_id: None,
        data: json!({"n": n}),
    }
}

async fn stream(pool: &Pool, prefix: &str) -> Result<Vec<LiveEvent>> {
    let mut connection = pool.get().await?;
    let entries: Vec<(String, Vec<(String, String)>)> = redis::cmd("XRANGE")
        .arg(format!("{prefix}{}", live::STREAM))
        .arg("-")
        .arg("+")
        .query_async(&mut connection)
        .await?;
    let mut events = Vec::new();
    for (name, value) in entries.into_iter().flat_map(|(_, fields)| fields) {
        assert_eq!(name, live::FIELD);
        events.push(serde_json::from_str(&value)?);
    }
    Ok(events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_version_replaces_an_earlier_one_and_is_told() -> Result<()> {
    let namespace = Namespace::create("mirror").await?;
    let pool = pool(&namespace.servers().redis_url)?;
    let mirror = Mirror::new(pool.clone(), &namespace.redis_prefix);
    assert_eq!(mirror.get("job:1").await, None);
    mirror.put("job:1", 2, &json!({"n": 2}), false, Some(&event(2))).await;
    mirror.put("job:1", 10, &json!({"n": 10}), false, Some(&event(10))).await;
    // Late, and again.
    mirror.put("job:1", 9, &json!({"n": 9}), true, Some(&event(9))).await;
    mirror.put("job:1", 10, &json!({"n": "other"}), true, Some(&event(10))).await;
    assert_eq!(mirror.get("job:1").await, Some(json!({"n": 10})));
    assert_eq!(mirror.get("job:2").await, None);
    mirror.announce(&event(11)).await;
    assert_eq!(stream(&pool, &namespace.redis_prefix).await?, [event(2), event(10), event(11)]);

    let ttl = || async {
        let mut connection = pool.get().await?;
        let key = format!("{}job:1", namespace.redis_prefix);
        anyhow::Ok(redis::cmd("TTL").arg(key).query_async::<i64>(&mut connection).await?)
    };
    assert!((1..=30).contains(&ttl().await?), "a job that runs is believed for a while");
    mirror.put("job:1", 11, &json!({"n": 11}), true, None).await;
    assert!((80_000..=86_400).contains(&ttl().await?), "one that has ended for a day");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_or_stalls_holds_nobody_up() -> Result<()> {
    let namespace = Namespace::create("mirror_away").await?;
    let (proxy, url) = Proxy::before(&namespace.servers().redis_url).await?;
    let mirror = Mirror::new(pool(&url)?, &namespace.redis_prefix);
    mirror.put("job:1", 1, &json!(1), false, None).await;
    assert_eq!(mirror.get("job:1").await, Some(json!(1)));
    for stalled in [false, true] {
        if stalled {
            proxy.stall().await
        } else {
            proxy.cut().await
        }
        let start = Instant::now();
        for version in 2..502 {
            mirror.put("job:1", version, &json!(version), false, Some(&event(version))).await;
            assert_eq!(mirror.get("job:1").await, None);
        }
        // 1,000 calls: each tried would be 200 s of stalls.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        proxy.heal().await;
        stack::wait::until("it is asked again", PATIENCE, || async {
            mirror.put("job:1", 1000 + i64::from(stalled), &json!("back"), false, None).await;
            mirror.get("job:1").await == Some(Value::from("back"))
        })
        .await?;
    }
    Ok(())
}
