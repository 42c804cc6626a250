use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use chassis::{
    config::{DatabaseSettings, HttpSettings, RedisSettings, Secret},
    db,
    http::{Health, Importance},
    http_client,
    redis::Redis,
};
use serde_json::{Value, json};
use stack::{Namespace, proxy::Proxy};
use tokio_util::sync::CancellationToken;

use crate::support::{settings, start, start_with};

#[tokio::test]
async fn a_process_lives_even_when_nothing_it_needs_does() -> anyhow::Result<()> {
    let dead =
        Health::new("catalog-upload").check("broken", Importance::Required, async || Err("gone".into()));
    let server = start(dead, |_| {})?;
    for path in ["/health", "/health/live"] {
        let answer = http_client().get(server.at(path)).send().await?;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.json::<Value>().await?,
            json!({ "status": "healthy", "service": "catalog-upload" })
        );
    }
    let answer = http_client().get(server.at("/health/ready")).send().await?;
    assert_eq!(answer.status(), 503);
    assert_eq!(
        answer.json::<Value>().await?,
        json!({ "status": "unavailable", "service": "catalog-upload", "checks": { "broken": "down" } })
    );
    let serving = http_client().get(server.at("/health/serving")).send().await?;
    assert_eq!(serving.status(), 503, "it was never ready");
    Ok(())
}

#[tokio::test]
async fn readiness_names_what_is_down_and_does_not_hang_with_it() -> anyhow::Result<()> {
    let namespace = Namespace::create("chassis_ready").await?;
    let (database_proxy, database_url) = Proxy::before(&namespace.database_url).await?;
    let (redis_proxy, redis_url) = Proxy::before(&namespace.servers().redis_url).await?;
    let shutdown = CancellationToken::new();
    let database = db::connect(&DatabaseSettings::at(database_url), "chassis-test", &shutdown).await?;
    let redis =
        Redis::new(&RedisSettings { url: Secret::new(redis_url), prefix: namespace.redis_prefix.clone() })?;
    let hangs = || async { std::future::pending().await };
    let health = Health::new("test")
        .database(&database)
        .redis(&redis)
        .check("hangs", Importance::Helpful, hangs)
        .check("hangs too", Importance::Helpful, hangs);
    let server = start(health, |_| {})?;
    let ask = async || -> anyhow::Result<(u16, Value, Duration)> {
        let started = Instant::now();
        let answer = http_client().get(server.at("/health/ready")).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?, started.elapsed()))
    };

    let (status, body, elapsed) = ask().await?;
    assert_eq!((status, &body["status"]), (200, &json!("degraded")), "{body}");
    assert_eq!(
        body["checks"],
        json!({ "database": "up", "redis": "up", "hangs": "down", "hangs too": "down" })
    );
    // Both hanging checks together cost one check's patience, 800 ms.
    assert!(elapsed < Duration::from_millis(1500), "{elapsed:?}");

    redis_proxy.stall().await;
    let (status, body, _) = ask().await?;
    assert_eq!((status, &body["checks"]["redis"]), (200, &json!("down")), "{body}");

    database_proxy.cut().await;
    let (status, body, elapsed) = ask().await?;
    assert_eq!((status, &body["status"]), (503, &json!("unavailable")), "{body}");
    assert_eq!(body["checks"]["database"], "down");
    // It is down for all replicas: this one answers for itself, and is not taken out.
    let serving = http_client().get(server.at("/health/serving")).send().await?;
    assert_eq!(serving.status(), 200);
    assert!(elapsed < Duration::from_millis(1500), "{elapsed:?}");

    database_proxy.heal().await;
    stack::wait::until("ready again", Duration::from_secs(20), async || {
        ask().await.is_ok_and(|(status, ..)| status == 200)
    })
    .await?;
    Ok(())
}

/// A load balancer learns late that a process ends: until it has, requests are taken, and connections are not kept.
#[tokio::test]
async fn a_process_that_ends_is_not_ready_before_it_stops_listening() -> anyhow::Result<()> {
    let settings = HttpSettings { lame_duck: Duration::from_secs(2), metrics_port: Some(0), ..settings() };
    let server = start_with(&settings, Health::new("test"), |config| {
        config.route("/work", web::get().to(async || HttpResponse::Ok().body("done")));
    })?;
    let client = http_client();
    let ready = async |base: &str| -> anyhow::Result<(u16, Value)> {
        let answer = client.get(format!("{base}/health/ready")).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    };
    assert_eq!(ready(&server.url).await?.0, 200);
    assert_eq!(ready(&server.metrics).await?.0, 200);

    server.shutdown.cancel();
    stack::wait::until("not ready", Duration::from_secs(2), async || {
        ready(&server.metrics).await.is_ok_and(|(status, _)| status == 503)
    })
    .await?;
    let (status, body) = ready(&server.url).await?;
    assert_eq!((status, &body["status"]), (503, &json!("draining")), "{body}");
    assert_eq!(client.get(server.at("/health/serving")).send().await?.status(), 503);
    let answer = client.get(server.at("/work")).send().await?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers().get("connection").map(|value| value.as_bytes()), Some(&b"close"[..]));
    server.task.await??;
    let refused = client.get(format!("{}/work", server.url)).send().await;
    assert!(refused.is_err(), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn metrics_leave_the_public_port_where_they_have_their_own() -> anyhow::Result<()> {
    let server = start(Health::new("test"), |_| {})?;
    assert_eq!(http_client().get(server.at("/metrics")).send().await?.status(), 200);
    let settings = HttpSettings { metrics_port: Some(0), ..settings() };
    let server = start_with(&settings, Health::new("test"), |_| {})?;
    assert_eq!(http_client().get(server.at("/metrics")).send().await?.status(), 404);
    let answer = http_client().get(format!("{}/metrics", server.metrics)).send().await?;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await?.contains("http_requests_total"));
    Ok(())
}
