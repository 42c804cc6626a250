use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::{
    config::{Env, RedisSettings},
    redis::Redis,
};
use contracts::live::{FIELD, LiveEvent, STREAM};
use deadpool_redis::redis::{Cmd, FromRedisValue, cmd};
use serde_json::{Value, json};
use stack::{Namespace, wait::until};
use tokio::time::timeout;

use crate::{
    harness::{Running, Setup, problem},
    upstream::Upstream,
};

const SOON: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// One event of a stream, as an `EventSource` would see it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub kind: String,
    pub data: Value,
}

/// A client of the stream.
pub struct Source {
    response: reqwest::Response,
    buffer: String,
    /// The last id that was seen, with or without an event, here or before.
    pub last_id: Option<String>,
}

impl Source {
    /// Connects, and reads the block that says where the stream stands.
    pub async fn open(gateway: &Running, token: &str, last_event_id: Option<&str>) -> anyhow::Result<Self> {
        let mut request = gateway.get("/api/v1/stream").bearer_auth(token);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await?;
        anyhow::ensure!(response.status() == 200, "{}: {}", response.status(), response.text().await?);
        Ok(Self { response, buffer: String::new(), last_id: last_event_id.map(str::to_owned) })
    }

    /// Connects as soon as it is let in: a gateway that does not read the live stream refuses.
    pub async fn come(gateway: &Running, token: &str, last_event_id: Option<&str>) -> anyhow::Result<Self> {
        let end = Instant::now() + SOON;
        loop {
            match Self::open(gateway, token, last_event_id).await {
                Ok(source) => return Ok(source),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Connects as someone who saw `last_event_id`, until it is told something; gives that too. A gateway whose Redis does
    /// not answer in time ends such a stream without a word, and an `EventSource` comes back with its id.
    async fn come_back(gateway: &Running, token: &str, last_event_id: &str) -> anyhow::Result<(Self, Event)> {
        let end = Instant::now() + SOON;
        loop {
            let mut source = Self::come(gateway, token, Some(last_event_id)).await?;
            if let Some(event) = source.next().await? {
                return Ok((source, event));
            }
            anyhow::ensure!(Instant::now() < end, "the stream ends again and again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The next event, whatever has ended the stream or made it fall behind: it comes back with its id.
    async fn follow(&mut self, gateway: &Running, token: &str) -> anyhow::Result<Event> {
        let mut told = self.next().await?;
        loop {
            if let Some(event) = told {
                if event.kind != "reset" {
                    return Ok(event);
                }
                anyhow::ensure!(event.data["reason"] == "lagged", "{event:?}");
            }
            let last_id = self.last_id.clone().context("events have ids")?;
            let (source, event) = Self::come_back(gateway, token, &last_id).await?;
            *self = source;
            told = Some(event);
        }
    }

    /// The next event; `None` at the stream's end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let mut event = Event::default();
                let mut has_data = false;
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => event.id = Some(id.to_owned()),
                        Some(("event", kind)) => event.kind = kind.to_owned(),
                        Some(("data", data)) => {
                            event.data = serde_json::from_str(data)?;
                            has_data = true;
                        }
                        _ => {}
                    }
                }
                self.last_id = event.id.clone().or(self.last_id.take());
                if has_data {
                    return Ok(Some(event));
                }
            }
            match timeout(SOON, self.response.chunk()).await.context("the stream is silent")?? {
                Some(bytes) => self.buffer.push_str(std::str::from_utf8(&bytes)?),
                None => return Ok(None),
            }
        }
    }

    /// The next event's number, as [`publish`] gave it.
    pub async fn number(&mut self) -> anyhow::Result<i64> {
        let event = self.next().await?.context("the stream ended")?;
        event.data["data"]["n"].as_i64().with_context(|| format!("{event:?}"))
    }

    /// Waits until the server has said where the stream stands: from then on nothing is missed.
    pub async fn settled(mut self) -> anyhow::Result<Self> {
        while !self.buffer.contains("id: ") {
            let chunk = timeout(SOON, self.response.chunk()).await??.context("the stream ended")?;
            self.buffer.push_str(std::str::from_utf8(&chunk)?);
        }
        Ok(self)
    }
}

pub fn redis(namespace: &Namespace) -> anyhow::Result<Redis> {
    redis_at(&namespace.servers().redis_url, &namespace.redis_prefix)
}

fn redis_at(url: &str, prefix: &str) -> anyhow::Result<Redis> {
    Redis::new(&RedisSettings::read(&mut Env::from_map([("REDIS_URL", url), ("REDIS_PREFIX", prefix)])))
}

/// Asks Redis over a connection of its own, as patiently as need be. The pool gives a command up after a moment, and one
/// that is sent again may have been done before.
async fn ask<T: FromRedisValue>(redis: &Redis, command: &Cmd) -> anyhow::Result<T> {
    let mut connection = redis.dedicated().await?;
    Ok(command.query_async(&mut connection).await?)
}

/// Says something in the live stream, as a service would.
async fn publish(redis: &Redis, n: i64, proveedor_id: Option<&str>) -> anyhow::Result<String> {
    let event = LiveEvent {
        kind: "job.progress".into(),
        service: "catalog-upload".into(),
        proveedor_id: proveedor_id.map(str::to_owned),
        data: json!({ "n": n }),
    };
    let mut add = cmd("XADD");
    add.arg(redis.key(STREAM)).arg("*").arg(FIELD).arg(serde_json::to_string(&event)?);
    ask(redis, &add).await
}

#[tokio::test]
async fn services_know_while_somebody_watches() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_watched").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let token = gateway.user("viewer", None).await?;
    let redis = redis(&namespace)?;
    let mut lifetime = cmd("PTTL");
    lifetime.arg(redis.key(contracts::live::WATCHED));
    let left = || ask::<i64>(&redis, &lifetime);
    anyhow::ensure!(left().await? == -2, "nobody watches");
    let source = Source::come(&gateway, &token, None).await?.settled().await?;
    until("it is said", SOON, async || left().await.is_ok_and(|left| left > 0)).await?;
    // Not for ever: a gateway that dies says nothing.
    anyhow::ensure!(left().await? <= 30_000);
    drop(source);
    gateway.stop().await
}

#[tokio::test]
async fn any_replica_goes_on_where_another_ended() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_sse").await?;
    let upstream = Upstream::start().await?;
    let one = Setup::new(&namespace, &upstream.url).start().await?;
    let two = Setup::new(&namespace, &upstream.url).start().await?;
    let redis = redis(&namespace)?;
    let token = one.user("viewer", None).await?;
    let mut early = [
        Source::come(&one, &token, None).await?.settled().await?,
        Source::come(&two, &token, None).await?.settled().await?,
    ];
    publish(&redis, 0, None).await?;
    for source in &mut early {
        assert_eq!(source.number().await?, 0);
    }

    let mut first = Source::come(&one, &token, None).await?.settled().await?;
    let mut elsewhere = Source::come(&two, &token, None).await?.settled().await?;
    for n in 1..=3 {
        publish(&redis, n, Some("PROV001")).await?;
    }
    for n in 1..=3 {
        assert_eq!(first.number().await?, n, "what was before is not for those who come new");
        assert_eq!(elsewhere.number().await?, n);
    }
    let left_at = first.last_id.clone().context("events have ids")?;
    drop(first);
    for n in 4..=1200 {
        publish(&redis, n, None).await?;
    }
    // While it catches up (in pages), more happens.
    let late = tokio::spawn({
        let redis = redis.clone();
        async move {
            for n in 1201..=1300 {
                publish(&redis, n, None).await?;
            }
            anyhow::Ok(())
        }
    });
    let (mut back, event) = Source::come_back(&two, &token, &left_at).await?;
    assert_eq!(event.data["data"]["n"], 4);
    for n in 5..=1300 {
        assert_eq!(back.follow(&two, &token).await?.data["data"]["n"], n, "no gap, nothing twice");
    }
    late.await??;
    for n in 4..=1300 {
        assert_eq!(elsewhere.follow(&two, &token).await?.data["data"]["n"], n);
    }

    // Ids that no stream has: told to read the present state, and live from now.
    for wrong in ["nonsense", "1-1"] {
        let (lost, told) = Source::come_back(&one, &token, wrong).await?;
        assert_eq!(told.kind, "reset");
        let settled = lost.settled().await?;
        drop(settled);
    }
    Ok(())
}

#[tokio::test]
async fn a_supplier_sees_its_own_only() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_sse_own").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let redis = redis(&namespace)?;
    let own = gateway.user("supplier", Some("PROV001")).await?;
    let admin = gateway.admin().await?;
    let mut supplier = Source::come(&gateway, &own, None).await?.settled().await?;
    let mut all = Source::come(&gateway, &admin, None).await?.settled().await?;
    for (n, owner) in
        [(1, Some("PROV002")), (2, None), (3, Some("PROV001")), (4, Some("")), (5, Some("PROV001"))]
    {
        publish(&redis, n, owner).await?;
    }
    assert_eq!(supplier.number().await?, 3);
    assert_eq!(supplier.number().await?, 5);
    for n in 1..=5 {
        assert_eq!(all.number().await?, n);
    }
    // The past is filtered as well.
    let beginning = "0-0";
    let (_, past) = Source::come_back(&gateway, &own, beginning).await?;
    assert_eq!(past.data["data"]["n"], 3);
    let nobody = gateway.get("/api/v1/stream").send().await?;
    assert_eq!(problem(nobody).await?["status"], 401);
    Ok(())
}

#[tokio::test]
async fn streams_end_with_their_token_and_are_counted() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_sse_end").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url)
        .with("ACCESS_TOKEN_SECONDS", "10")
        .with("STREAM_CONNECTIONS", "2")
        .start()
        .await?;
    let token = gateway.admin().await?;
    let open = [Source::come(&gateway, &token, None).await?, Source::come(&gateway, &token, None).await?];
    let third = gateway.get("/api/v1/stream").bearer_auth(&token).send().await?;
    assert_eq!(problem(third).await?["code"], "too_many_requests");
    for mut source in open {
        assert_eq!(source.next().await?.context("an event")?.kind, "expired");
        assert_eq!(source.next().await?, None);
    }
    // The places of the two that ended are freed a moment after they have.
    let source = Source::come(&gateway, &gateway.admin().await?, None).await?;
    gateway.stop().await?;
    drop(source);
    Ok(())
}

#[tokio::test]
async fn a_stream_outlives_redis() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_sse_redis").await?;
    let upstream = Upstream::start().await?;
    let directory = stack::home().join("test-redis").join(&namespace.name);
    let server = stack::server::Redis::at(&directory, stack::ports::free()?, &stack::random_hex(8))?;
    server.start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with("REDIS_URL", server.url()).start().await?;
    let redis = redis_at(&server.url(), &namespace.redis_prefix)?;
    let token = gateway.admin().await?;
    let mut source = Source::come(&gateway, &token, None).await?.settled().await?;
    publish(&redis, 1, None).await?;
    assert_eq!(source.number().await?, 1);
    server.kill().await?;
    until("new streams are refused", SOON, async || {
        gateway.get("/api/v1/stream").bearer_auth(&token).send().await.is_ok_and(|r| r.status() == 503)
    })
    .await?;
    let refused = gateway.get("/api/v1/stream").bearer_auth(&token).send().await?;
    assert_eq!(problem(refused).await?["code"], "stream_unavailable");
    let ready: Value = gateway.get("/health/ready").send().await?.json().await?;
    assert_eq!(ready["checks"]["redis"], "down");

    // It comes back empty, as a cache does; what is said from now on arrives.
    server.start().await?;
    publish(&redis, 2, None).await?;
    assert_eq!(source.number().await?, 2);
    let lost = source.last_id.clone().context("an id")?;
    drop(source);
    server.kill().await?;
    server.start().await?;
    let (_, told) = Source::come_back(&gateway, &token, &lost).await?;
    assert_eq!(told.kind, "reset", "its past is gone, and it is told");
    assert_eq!(told.data["reason"], "trimmed");
    server.stop().await?;
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_falls_behind_is_told_and_goes_on_where_it_was() -> anyhow::Result<()> {
    const EVENTS: i64 = 3_000;
    let namespace = Namespace::create("edge_sse_lag").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let redis = redis(&namespace)?;
    let token = gateway.admin().await?;
    let mut slow = Source::come(&gateway, &token, None).await?.settled().await?;
    // More than the sockets' buffers hold, so that the gateway can't get rid of it.
    publish_large(&redis, EVENTS).await?;
    let mut next = 0;
    let told = loop {
        let event = slow.next().await?.context("it ended without a word")?;
        if event.kind == "reset" {
            break event;
        }
        assert_eq!(event.data["data"]["n"], next);
        next += 1;
    };
    assert_eq!(told.data["reason"], "lagged");
    assert!(next < EVENTS, "it never fell behind");
    assert_eq!(slow.next().await?, None);
    // It may fall behind again on the way: each time it goes on where it was.
    let mut last_id = slow.last_id.clone();
    while next < EVENTS {
        let mut back = Source::come(&gateway, &token, last_id.as_deref()).await?;
        while let Some(event) = back.next().await?
            && event.kind != "reset"
        {
            assert_eq!(event.data["data"]["n"], next);
            next += 1;
            if next == EVENTS {
                break;
            }
        }
        last_id = back.last_id.clone();
    }
    let deleted: i64 = ask(&redis, cmd("DEL").arg(redis.key(STREAM))).await?;
    assert_eq!(deleted, 1);
    Ok(())
}

#[tokio::test]
async fn who_reads_slowly_is_told_nothing_after_the_end_of_the_session() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_stream_slow_end").await?;
    let redis = redis(&namespace)?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let token = gateway.user("viewer", None).await?;
    let first = publish(&redis, -1, None).await?;
    publish_large(&redis, 2_000).await?;

    // It asks for the past, more than the sockets hold, and reads no more than its beginning yet.
    let (mut slow, beginning) = Source::come_back(&gateway, &token, &first).await?;
    assert_eq!(beginning.data["data"]["n"], 0);
    gateway.change_password(&token).await?;
    publish(&redis, 77_777, None).await?;
    let (mut told, mut last) = (1, Some(beginning));
    while let Some(event) = timeout(SOON, slow.next()).await?? {
        assert_ne!(event.data["data"]["n"], 77_777, "what happened after the session's end");
        told += 1;
        last = Some(event);
    }
    assert!(told < 2_000, "all of the past was told");
    let said = last.is_some_and(|event| event.kind == "expired" || event.data["data"]["n"].is_number());
    assert!(said, "it ends in the past, or with a farewell");
    let deleted: i64 = ask(&redis, cmd("DEL").arg(redis.key(STREAM))).await?;
    assert_eq!(deleted, 1);
    Ok(())
}

/// Says much in the live stream, of which each event is large.
async fn publish_large(redis: &Redis, events: i64) -> anyhow::Result<()> {
    let padding = "x".repeat(16 << 10);
    let mut connection = redis.dedicated().await?;
    for batch in 0..events / 50 {
        let mut pipe = deadpool_redis::redis::pipe();
        for n in batch * 50..(batch + 1) * 50 {
            let event = LiveEvent {
                kind: "job.progress".into(),
                service: "catalog-upload".into(),
                proveedor_id: None,
                data: json!({ "n": n, "padding": padding }),
            };
            let event = serde_json::to_string(&event)?;
            pipe.cmd("XADD").arg(redis.key(STREAM)).arg("*").arg(FIELD).arg(event).ignore();
        }
        pipe.query_async::<()>(&mut connection).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_with_its_session_at_every_replica() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_stream_revoked").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let replica = Setup::new(&namespace, &upstream.url).start().await?;
    let (token, stays) = (gateway.user("viewer", None).await?, gateway.user("viewer", None).await?);
    let echo = async |gateway: &Running, token: &str| {
        anyhow::Ok(gateway.get("/api/v1/catalog/echo").bearer_auth(token).send().await?.status().as_u16())
    };
    let mut streams = Vec::new();
    for gateway in [&gateway, &replica] {
        streams.push(Source::come(gateway, &token, None).await?);
        assert_eq!(echo(gateway, &token).await?, 200);
    }
    gateway.change_password(&token).await?;
    assert_eq!(echo(&gateway, &token).await?, 401, "at once where it was changed");
    until("the replica knows", SOON, async || echo(&replica, &token).await.is_ok_and(|status| status == 401))
        .await?;
    for mut stream in streams {
        let last = stream.next().await?.context("a farewell")?;
        assert_eq!((last.kind.as_str(), &last.data["reason"]), ("expired", &json!("session_ended")));
        assert_eq!(stream.next().await?, None);
    }
    for gateway in [&gateway, &replica] {
        assert_eq!(echo(gateway, &stays).await?, 200, "nobody else's session");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_of_a_key_ends_with_the_key() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_stream_key").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let token = gateway.user("viewer", None).await?;
    let key = gateway.api_key(&token).await?;
    drop(Source::come(&gateway, &token, None).await?);
    let response = gateway.get("/api/v1/stream").header("x-api-key", &key).send().await?;
    let mut stream = Source { response, buffer: String::new(), last_id: None };
    let keys: Value = gateway.get("/api/v1/api-keys").bearer_auth(&token).send().await?.json().await?;
    let id = keys["items"][0]["id"].as_str().context("the key")?;
    let revoke = gateway.client.delete(format!("{}/api/v1/api-keys/{id}", gateway.url));
    revoke.bearer_auth(&token).send().await?.error_for_status()?;
    let last = stream.next().await?.context("a farewell")?;
    assert_eq!((last.kind.as_str(), &last.data["reason"]), ("expired", &json!("session_ended")));
    assert_eq!(stream.next().await?, None);
    Ok(())
}

#[tokio::test]
async fn streams_are_counted_by_user() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_stream_count").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with("STREAM_CONNECTIONS", "2").start().await?;
    let token = gateway.user("operator", None).await?;
    let keys = [gateway.api_key(&token).await?, gateway.api_key(&token).await?];
    let _open = Source::come(&gateway, &token, None).await?;
    let by_key = async |key: &str| gateway.get("/api/v1/stream").header("x-api-key", key).send().await;
    let second = by_key(&keys[0]).await?;
    assert_eq!(second.status(), 200);
    assert_eq!(problem(by_key(&keys[1]).await?).await?["status"], 429);
    Ok(())
}
