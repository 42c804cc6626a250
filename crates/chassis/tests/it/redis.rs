use std::time::{Duration, Instant};

use chassis::{
    config::{RedisSettings, Secret},
    redis::{Redis, Unanswered},
};
use deadpool_redis::redis::{cmd, pipe};
use stack::{Namespace, proxy::Proxy};

#[tokio::test]
async fn without_redis_a_question_costs_milliseconds_and_the_next_nothing() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_redis").await?;
    let (proxy, url) = Proxy::before(&namespace.servers().redis_url).await?;
    let redis = Redis::new(&RedisSettings { url: Secret::new(url), prefix: namespace.redis_prefix.clone() })?;
    let key = redis.key("answer");
    assert_eq!(key, format!("{}answer", namespace.redis_prefix));
    let mut both = pipe();
    both.cmd("SET").arg(&key).arg(42).ignore().cmd("GET").arg(&key);
    assert_eq!(redis.pipeline::<(u32,)>(&both).await?, (42,));
    let get = || {
        let mut get = cmd("GET");
        get.arg(&key);
        get
    };

    for outage in ["cut", "stalled"] {
        if outage == "cut" {
            proxy.cut().await
        } else {
            proxy.stall().await
        }
        let started = Instant::now();
        let first = redis.query::<u32>(&get()).await;
        assert!(matches!(first, Err(Unanswered::Unreachable(_))), "{outage}: {first:?}");
        // A quarter of a second on an idle machine; a server that says nothing would be waited for for ever.
        assert!(started.elapsed() < Duration::from_secs(5), "{outage}: {:?}", started.elapsed());

        // Nobody asks, so that nobody waits.
        for _ in 0..100 {
            assert!(matches!(redis.query::<u32>(&get()).await, Err(Unanswered::Resting)), "{outage}");
        }

        proxy.heal().await;
        stack::wait::until("Redis is asked again", Duration::from_secs(10), async || {
            redis.query::<u32>(&get()).await.is_ok_and(|answer| answer == 42)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_command_is_our_mistake_and_no_outage() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_redis_refused").await?;
    let url = Secret::new(namespace.servers().redis_url.clone());
    let redis = Redis::new(&RedisSettings { url, prefix: namespace.redis_prefix.clone() })?;
    let mut push = cmd("LPUSH");
    push.arg(redis.key("list")).arg(1);
    redis.query::<u32>(&push).await?;
    let mut get = cmd("GET");
    get.arg(redis.key("list"));
    assert!(matches!(redis.query::<String>(&get).await, Err(Unanswered::Refused(_))));
    // The breaker stayed closed.
    assert_eq!(redis.query::<u32>(&push).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_shared_connection_that_is_lost_is_made_again() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_redis_shared").await?;
    let (proxy, url) = Proxy::before(&namespace.servers().redis_url).await?;
    let redis = Redis::new(&RedisSettings { url: Secret::new(url), prefix: namespace.redis_prefix.clone() })?;
    let mut add = cmd("INCR");
    add.arg(redis.key("number"));
    assert_eq!(redis.query_shared::<u32>(&add).await?, 1);
    for outage in ["cut", "stalled"] {
        if outage == "cut" {
            proxy.cut().await
        } else {
            proxy.stall().await
        }
        let first = redis.query_shared::<u32>(&add).await;
        assert!(matches!(first, Err(Unanswered::Unreachable(_))), "{outage}: {first:?}");
        assert!(matches!(redis.query_shared::<u32>(&add).await, Err(Unanswered::Resting)), "{outage}");
        proxy.heal().await;
        stack::wait::until("Redis is asked again", Duration::from_secs(10), async || {
            redis.query_shared::<u32>(&add).await.is_ok()
        })
        .await?;
    }
    Ok(())
}
