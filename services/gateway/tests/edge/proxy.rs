use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::Value;
use stack::{Namespace, wait::until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    harness::{Setup, problem},
    upstream::Upstream,
};

const SOON: Duration = Duration::from_secs(20);

fn claims(token: &str) -> anyhow::Result<Value> {
    let payload = token.split('.').nth(1).unwrap_or_default();
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?)
}

#[tokio::test]
async fn a_request_arrives_with_what_the_service_needs_and_nothing_else() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_headers").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let token = gateway.admin().await?;

    let response = gateway
        .post("/api/v1/catalog/echo?proveedor_id=P%201")
        .bearer_auth(&token)
        .header("idempotency-key", "k-1")
        .header("x-request-id", "request-0001")
        .header("cookie", "theme=dark")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-host", "evil.example")
        .header("forwarded", "for=6.6.6.6")
        .header("x-user-role", "admin")
        .header("connection", "x-secret")
        .header("x-secret", "1")
        .header("content-type", "application/json")
        .body("{\"a\":1}")
        .send()
        .await?;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let echo: Value = response.json().await?;
    assert_eq!(echo["path"], "/api/v1/catalog/echo?proveedor_id=P%201");
    assert_eq!(echo["body"], "{\"a\":1}");
    let sent = &echo["headers"];
    assert_eq!(sent["authorization"], format!("Bearer {token}"));
    assert_eq!(sent["idempotency-key"], "k-1");
    assert_eq!(sent["x-request-id"], "request-0001");
    assert_eq!(sent["content-type"], "application/json");
    assert_eq!(sent["content-length"], "7");
    assert_eq!(sent["x-forwarded-for"], "127.0.0.1");
    assert_eq!(sent["x-forwarded-proto"], "http");
    assert_eq!(sent["x-forwarded-host"], gateway.address());
    for name in ["cookie", "x-user-role", "x-secret", "forwarded", "x-api-key"] {
        assert!(sent[name].is_null(), "{name} got through: {echo}");
    }
    for name in ["set-cookie", "keep-alive"] {
        assert!(!headers.contains_key(name), "{name} came back");
    }
    assert_eq!(headers["etag"], "\"7\"");
    assert_eq!(headers["x-request-id"], "request-0001");
    assert_eq!(headers.get_all("x-content-type-options").iter().count(), 1);

    // The other spelling is the same resource.
    let other: Value = gateway.get("/api/catalog/echo").bearer_auth(&token).send().await?.json().await?;
    assert_eq!(other["path"], "/api/v1/catalog/echo");
    Ok(())
}

#[tokio::test]
async fn a_webhook_arrives_as_it_was_signed_and_no_larger_than_it_may_be() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_webhook").await?;
    let upstream = Upstream::start().await?;
    let gateway =
        Setup::new(&namespace, &upstream.url).with("SMS_DISPATCH_URL", &upstream.url).start().await?;
    let post = |body: Vec<u8>| {
        gateway
            .post("/webhooks/telnyx?message=1&attempt=2")
            .header("content-type", "application/json")
            .header("telnyx-signature-ed25519", "c2lnbmVk")
            .header("telnyx-timestamp", "1790000000")
            .header("x-twilio-signature", "c2lnbmVk")
            .body(body)
            .send()
    };
    // Byte by byte: who writes it anew breaks the signature.
    let body = "{ \"b\":1,\r\n\"a\" : \"á\" }";
    let arrived: Value = post(body.into()).await?.error_for_status()?.json().await?;
    assert_eq!(arrived["body"], body);
    assert_eq!(arrived["path"], "/webhooks/telnyx?message=1&attempt=2");
    for (header, value) in [
        ("telnyx-signature-ed25519", "c2lnbmVk"),
        ("telnyx-timestamp", "1790000000"),
        ("x-twilio-signature", "c2lnbmVk"),
    ] {
        assert_eq!(arrived["headers"][header], value);
    }
    assert_eq!(post(vec![b'x'; 64 << 10]).await?.status(), 200);
    let requests = upstream.requests();
    assert_eq!(problem(post(vec![b'x'; (64 << 10) + 1]).await?).await?["code"], "payload_too_large");
    assert_eq!(gateway.get("/webhooks/telnyx").send().await?.status(), 405);
    assert_eq!(upstream.requests(), requests, "nobody hears of these");
    Ok(())
}

#[tokio::test]
async fn who_may_not_is_refused_before_a_service_hears_of_it() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_access").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let viewer = gateway.user("viewer", None).await?;

    let nobody = gateway.get("/api/v1/catalog/echo").send().await?;
    assert_eq!(nobody.headers()["www-authenticate"], "Bearer");
    assert_eq!(problem(nobody).await?["status"], 401);
    let forged = gateway.get("/api/v1/catalog/echo").bearer_auth("a.b.c").send().await?;
    assert_eq!(problem(forged).await?["status"], 401);
    let writing = gateway.post("/api/v1/catalog/echo").bearer_auth(&viewer).send().await?;
    assert_eq!(problem(writing).await?["status"], 403);
    let admin_only = gateway.get("/api/v1/admin/catalog-upload/x").bearer_auth(&viewer).send().await?;
    assert_eq!(problem(admin_only).await?["status"], 403);
    let unknown = gateway.get("/api/v1/nothing").bearer_auth(&viewer).send().await?;
    assert_eq!(problem(unknown).await?["status"], 404);
    let unconfigured = gateway.get("/api/v1/reports/1").bearer_auth(&viewer).send().await?;
    assert_eq!(problem(unconfigured).await?["status"], 404);
    // Clients tidy such paths up; an attacker does not.
    for path in ["/api/v1/catalog/../admin/catalog-upload/x", "/api/v1/catalog/%2e%2e/admin/catalog-upload/x"]
    {
        let mut stream = TcpStream::connect(gateway.address()).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {viewer}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await??;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
    assert_eq!(upstream.requests(), 0);

    let reading = gateway.get("/api/v1/catalog/echo").bearer_auth(&viewer).send().await?;
    assert_eq!(reading.status(), 200);
    for alias in ["/api/v1/catalog/health", "/api/v1/inventory/health"] {
        let health: Value = gateway.get(alias).send().await?.error_for_status()?.json().await?;
        assert_eq!(health["service"], "catalog-upload");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_streams_while_it_is_made() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_drip").await?;
    let upstream = Upstream::start().await?;
    let gateway =
        Setup::new(&namespace, &upstream.url).with("BACKEND_TIMEOUT_MILLIS", "4000").start().await?;
    let token = gateway.admin().await?;
    let drip = async || gateway.get("/api/v1/catalog/drip").bearer_auth(&token).send().await;

    let mut response = drip().await?;
    assert_eq!(timeout(SOON, response.chunk()).await??, Some(Bytes::from_static(b"first ")));
    upstream.seen.go.notify_one();
    assert_eq!(timeout(SOON, response.chunk()).await??, Some(Bytes::from_static(b"second")));
    assert_eq!(timeout(SOON, response.chunk()).await??, None);

    // A service that falls silent in the middle: the answer is cut, and does not look whole.
    let mut response = drip().await?;
    assert_eq!(timeout(SOON, response.chunk()).await??, Some(Bytes::from_static(b"first ")));
    assert!(timeout(SOON, response.chunk()).await?.is_err());
    Ok(())
}

#[tokio::test]
async fn a_service_that_is_down_is_said_so_in_milliseconds() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_down").await?;
    let port = stack::ports::free()?;
    let gateway = Setup::new(&namespace, &format!("http://127.0.0.1:{port}"))
        .with("BREAKER_THRESHOLD", "3")
        .with("BREAKER_PAUSE_MILLIS", "300")
        .start()
        .await?;
    let token = gateway.admin().await?;
    let get = async || gateway.get("/api/v1/catalog/echo").bearer_auth(&token).send().await;
    get().await?;
    let mut quickest = Duration::MAX;
    for _ in 0..6 {
        let started = Instant::now();
        let response = get().await?;
        quickest = quickest.min(started.elapsed());
        assert!(response.headers().contains_key("retry-after"));
        let problem = problem(response).await?;
        assert_eq!(problem["status"], 503);
        assert_eq!(problem["code"], "backend_unavailable");
        assert_eq!(problem["error"], "Servicio no disponible");
        assert!(problem["details"].as_str().is_some_and(|text| text.contains("catalog-upload")), "{problem}");
    }
    // Milliseconds on an idle machine; tests share theirs.
    assert!(quickest < Duration::from_millis(400), "{quickest:?}");
    let ready: Value = gateway.get("/health/ready").send().await?.json().await?;
    assert_eq!(ready["status"], "degraded");
    assert_eq!(ready["checks"]["catalog-upload"], "down");
    assert_eq!(ready["checks"]["database"], "up");

    let upstream = Upstream::start_on(port)?;
    until("it is back", SOON, async || get().await.is_ok_and(|response| response.status() == 200)).await?;
    assert!(upstream.requests() >= 1);
    let health: Value = gateway.get("/health").send().await?.json().await?;
    assert_eq!(health, serde_json::json!({ "status": "healthy", "service": "gateway" }));
    let metrics = gateway.get("/metrics").send().await?.text().await?;
    assert!(metrics.contains("gateway_breaker_opened_total{backend=\"catalog-upload\"}"), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn a_service_that_stalls_times_out_and_is_then_left_alone() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_stall").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url)
        .with("BACKEND_TIMEOUT_MILLIS", "2000")
        .with("BREAKER_THRESHOLD", "2")
        .with("BREAKER_PAUSE_MILLIS", "60000")
        .start()
        .await?;
    // Two callers: one alone could be the reason for its own trouble.
    let (one, other) = (gateway.user("viewer", None).await?, gateway.user("viewer", None).await?);
    let get =
        async |token: &str| gateway.get("/api/v1/catalog/never-answers").bearer_auth(token).send().await;
    for token in [&one, &other] {
        let problem = problem(get(token).await?).await?;
        assert_eq!((&problem["status"], &problem["code"]), (&504.into(), &"backend_timeout".into()));
    }
    assert_eq!(upstream.requests(), 2, "a request that timed out is not repeated");
    assert_eq!(problem(get(&one).await?).await?["code"], "backend_unavailable");
    assert_eq!(upstream.requests(), 2, "the circuit is open");
    Ok(())
}

#[tokio::test]
async fn requests_that_make_a_service_hang_up_stop_nobody_else() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_hang_up").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    // Whoever posts finds the line cut, as by a service that panics over a form; whoever reads is answered.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).await.is_ok() && buffer.starts_with(b"GET") {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            }
        }
    });
    let gateway = Setup::new(&namespace, &url)
        .with("BREAKER_THRESHOLD", "2")
        .with("BREAKER_PAUSE_MILLIS", "60000")
        .start()
        .await?;
    let (one, other) = (gateway.user("operator", None).await?, gateway.user("operator", None).await?);
    for token in [&one, &other, &one, &other, &one, &other] {
        let cut = gateway.post("/api/v1/catalog/upload").bearer_auth(token).body("{}").send().await?;
        assert_eq!(problem(cut).await?["code"], "backend_broke_off");
    }
    let read = gateway.get("/api/v1/catalog/items").bearer_auth(&one).send().await?;
    assert_eq!((read.status().as_u16(), read.text().await?.as_str()), (200, "ok"));
    Ok(())
}

#[tokio::test]
async fn errors_of_a_service_count_once_a_caller() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_fails").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url)
        .with("BREAKER_THRESHOLD", "2")
        .with("BREAKER_PAUSE_MILLIS", "60000")
        .start()
        .await?;
    let (one, other) = (gateway.user("viewer", None).await?, gateway.user("viewer", None).await?);
    let get = async |token: &str| gateway.get("/api/v1/catalog/fails").bearer_auth(token).send().await;
    for _ in 0..4 {
        assert_eq!(get(&one).await?.status(), 500, "the service's own answer");
    }
    let echo = gateway.get("/api/v1/catalog/echo").bearer_auth(&other).send().await?;
    assert_eq!(echo.status(), 200, "one caller's errors are its own");
    for token in [&one, &other] {
        assert_eq!(get(token).await?.status(), 500);
    }
    assert_eq!(problem(get(&other).await?).await?["code"], "backend_unavailable", "two callers' are not");
    Ok(())
}

#[tokio::test]
async fn only_reading_is_tried_again() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_retry").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    // Hangs up on the first and the third connection, once their request is there, and answers the others.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = counter.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).await.is_ok() && number % 2 == 1 {
                let answer =
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close, x-hop\r\nx-hop: 1\r\n\r\nok";
                // The client may have gone: then it shows in the assertions.
                let _ = stream.write_all(answer).await;
            }
        }
    });
    let gateway = Setup::new(&namespace, &url).start().await?;
    let token = gateway.admin().await?;

    let read = gateway.get("/api/v1/catalog/items").bearer_auth(&token).send().await?;
    assert!(!read.headers().contains_key("x-hop"), "it belongs to the connection behind");
    assert_eq!(read.text().await?, "ok");
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
    let written = gateway.post("/api/v1/catalog/items").bearer_auth(&token).body("{}").send().await?;
    assert_eq!(problem(written).await?["code"], "backend_broke_off");
    assert_eq!(accepted.load(Ordering::SeqCst), 3, "what it did is unknown: it is not repeated");
    Ok(())
}

#[tokio::test]
async fn legacy_paths_work_without_login_only_where_configured() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_legacy").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url)
        .with("LEGACY_ANONYMOUS", "/api/v1/catalog/echo=operator,/api/v1/inventory=viewer")
        .start()
        .await?;
    let echo: Value =
        gateway.post("/api/v1/catalog/echo").body("x").send().await?.error_for_status()?.json().await?;
    let token = echo["headers"]["authorization"].as_str().unwrap_or_default().trim_start_matches("Bearer ");
    let claims = claims(token)?;
    assert_eq!(claims["role"], "operator");
    assert_eq!(claims["sub"], "legacy-anonymous");
    assert_eq!(gateway.get("/api/v1/inventory/x").send().await?.status(), 200);
    assert_eq!(gateway.post("/api/v1/inventory/x").send().await?.status(), 403, "a viewer does not write");
    assert_eq!(gateway.get("/api/v1/catalog/items").send().await?.status(), 401, "not configured");
    assert_eq!(
        gateway.get("/api/v1/catalog/echo").bearer_auth("a.b.c").send().await?.status(),
        401,
        "wrong credentials are not passed over"
    );

    let strict = Setup::new(&namespace, &upstream.url).start().await?;
    assert_eq!(strict.post("/api/v1/catalog/echo").body("x").send().await?.status(), 401);
    Ok(())
}

#[tokio::test]
async fn a_caller_has_so_many_answers_under_way() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_answers").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with("CALLER_CONNECTIONS", "2").start().await?;
    let (token, other) = (gateway.admin().await?, gateway.user("viewer", None).await?);
    let get =
        |token: &str, path: &str| gateway.get(&format!("/api/v1/catalog/{path}")).bearer_auth(token).send();
    let mut open = Vec::new();
    for _ in 0..2 {
        // Its answer has begun, and goes on for as long as the service likes.
        open.push(get(&token, "drip").await?.error_for_status()?);
    }
    assert_eq!(problem(get(&token, "echo").await?).await?["code"], "too_many_requests");
    assert_eq!(upstream.requests(), 2, "the service is not asked");
    assert_eq!(get(&other, "echo").await?.status(), 200, "others have places of their own");

    let read = futures::future::try_join_all(open.into_iter().map(reqwest::Response::text));
    let mut read = std::pin::pin!(timeout(SOON, read));
    let texts = loop {
        upstream.seen.go.notify_one();
        tokio::select! {
            texts = &mut read => break texts,
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    };
    assert_eq!(texts.context("the answers do not end")??, ["first second", "first second"]);
    until("answers that are read free their places", SOON, async || {
        get(&token, "echo").await.is_ok_and(|answer| answer.status() == 200)
    })
    .await
}
