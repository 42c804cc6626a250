//! Bodies on their way through the gateway: they stream, have their limits, and end with their clients.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt as _;
use reqwest::Body;
use serde_json::Value;
use stack::{Namespace, wait::until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use crate::{
    harness::{Setup, problem},
    upstream::{Upload, Upstream},
};

const SOON: Duration = Duration::from_secs(20);
const MULTIPART: &str = "multipart/form-data; boundary=x";

/// A body that is sent as the test says.
fn body() -> (mpsc::Sender<Result<Bytes, std::io::Error>>, Body) {
    let (sender, mut receiver) = mpsc::channel(1);
    (sender, Body::wrap_stream(futures::stream::poll_fn(move |context| receiver.poll_recv(context))))
}

#[tokio::test]
async fn an_upload_streams_while_it_is_sent() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_upload").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let token = gateway.admin().await?;

    let (sender, body) = body();
    let request = gateway
        .post("/api/v1/catalog/upload")
        .bearer_auth(&token)
        .header("content-type", MULTIPART)
        .body(body);
    let response = tokio::spawn(request.send());
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    sender.send(Ok(piece.clone())).await?;
    until("the service sees the first bytes", SOON, async || upstream.received() >= 64 * 1024).await?;
    assert!(!response.is_finished(), "the client has sent a part only");
    for _ in 1..800 {
        sender.send(Ok(piece.clone())).await?;
    }
    drop(sender);
    let answer: Value = response.await??.error_for_status()?.json().await?;
    assert_eq!(answer["received"], 800 * 64 * 1024);
    Ok(())
}

#[tokio::test]
async fn a_service_that_does_not_read_holds_the_client_back_and_is_given_up() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_pressure").await?;
    let upstream = Upstream::start().await?;
    let gateway =
        Setup::new(&namespace, &upstream.url).with("BACKEND_TIMEOUT_MILLIS", "1500").start().await?;
    let token = gateway.admin().await?;

    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let pieces = futures::stream::iter(0..1600).map(move |_| {
        counter.fetch_add(piece.len() as u64, Ordering::SeqCst);
        Ok::<_, std::io::Error>(piece.clone())
    });
    let response = gateway
        .post("/api/v1/catalog/never-reads")
        .bearer_auth(&token)
        .header("content-type", MULTIPART)
        .body(Body::wrap_stream(pieces))
        .send()
        .await?;
    assert_eq!(problem(response).await?["code"], "backend_timeout");
    // What fits into the sockets' buffers of two connections, and little more; never the 100 MB.
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 24 << 20, "the gateway took {sent} bytes that nobody read");
    Ok(())
}

#[tokio::test]
async fn too_much_is_refused_announced_or_not() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_too_large").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url)
        .with("UPLOAD_LIMIT", "1000000")
        .with("PROXY_BODY_LIMIT", "1000")
        .start()
        .await?;
    let token = gateway.admin().await?;
    let post =
        |kind: &str| gateway.post("/api/v1/catalog/upload").bearer_auth(&token).header("content-type", kind);

    let announced = post(MULTIPART).body(vec![b'x'; 3_000_000]).send().await?;
    assert_eq!(problem(announced).await?["code"], "payload_too_large");
    let json = post("application/json").body(vec![b'x'; 1001]).send().await?;
    assert_eq!(problem(json).await?["status"], 413);
    assert_eq!(upstream.requests(), 0, "refused by what they announced");

    let pieces = futures::stream::iter(0..60).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 50_000]));
    let chunked = post(MULTIPART).body(Body::wrap_stream(pieces)).send().await?;
    assert_eq!(problem(chunked).await?["code"], "payload_too_large");
    assert_eq!(upstream.upload_ended().await?, Upload::Broken, "a part must not pass for the whole");

    let fits = post(MULTIPART).body(vec![b'x'; 1_000_000]).send().await?;
    assert_eq!(fits.status(), 202);
    Ok(())
}

#[tokio::test]
async fn a_file_of_contacts_may_be_as_large_as_its_service_takes_and_no_other_file() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_contacts").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url)
        .with("SMS_DISPATCH_URL", &upstream.url)
        .with("UPLOAD_LIMIT", "1000000")
        .with("CONTACTS_MAX_MB", "2")
        .start()
        .await?;
    let token = gateway.admin().await?;
    let post = |path: &str, megabytes: usize| {
        let body = vec![b'x'; megabytes << 20];
        gateway.post(path).bearer_auth(&token).header("content-type", MULTIPART).body(body).send()
    };
    assert_eq!(post("/api/v1/contacts/imports", 2).await?.status(), 202);
    assert_eq!(problem(post("/api/v1/contacts/imports", 3).await?).await?["code"], "payload_too_large");
    assert_eq!(post("/api/v1/suppressions/imports", 3).await?.status(), 202);
    for path in ["/api/v1/contacts/validations", "/api/v1/suppressions", "/api/v1/catalog/upload"] {
        assert_eq!(problem(post(path, 2).await?).await?["code"], "payload_too_large", "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_upload_along() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_abandoned").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with("CLIENT_TIMEOUT_MILLIS", "700").start().await?;
    let token = gateway.admin().await?;
    let head = format!(
        "POST /api/v1/catalog/upload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: {MULTIPART}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    );

    let mut leaving = TcpStream::connect(gateway.address()).await?;
    leaving.write_all(head.as_bytes()).await?;
    until("the service sees the first bytes", SOON, async || upstream.received() == 5).await?;
    drop(leaving);
    assert_eq!(upstream.upload_ended().await?, Upload::Broken);

    upstream.seen.upload.send_replace(Upload::Running);
    let mut silent = TcpStream::connect(gateway.address()).await?;
    silent.write_all(head.as_bytes()).await?;
    assert_eq!(upstream.upload_ended().await?, Upload::Broken, "a client that falls silent");
    let mut answer = String::new();
    timeout(SOON, silent.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_trickles_is_cut_off() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_trickle").await?;
    let upstream = Upstream::start().await?;
    let setup = || Setup::new(&namespace, &upstream.url).with("CLIENT_TIMEOUT_MILLIS", "400");
    let slow = setup().with("CLIENT_MIN_BYTES_PER_SECOND", "1000").start().await?;
    let long =
        setup().with("CLIENT_MIN_BYTES_PER_SECOND", "0").with("CLIENT_DEADLINE_SECONDS", "1").start().await?;
    for gateway in [&slow, &long] {
        upstream.seen.upload.send_replace(Upload::Running);
        let head = format!(
            "POST /api/v1/catalog/upload HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             content-type: {MULTIPART}\r\ntransfer-encoding: chunked\r\n\r\n",
            gateway.admin().await?
        );
        let (mut answer, mut sending) = TcpStream::connect(gateway.address()).await?.into_split();
        sending.write_all(head.as_bytes()).await?;
        // What came fast at first is no credit for a minute of trickling.
        let burst = format!("ea60\r\n{}\r\n", "x".repeat(60_000));
        sending.write_all(burst.as_bytes()).await?;
        // Never silent for as long as a client may be.
        let trickle = tokio::spawn(async move {
            while sending.write_all(b"1\r\nx\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert_eq!(timeout(SOON, upstream.upload_ended()).await??, Upload::Broken);
        let mut status = [0; 12];
        timeout(SOON, answer.read_exact(&mut status)).await??;
        assert_eq!(&status, b"HTTP/1.1 408");
        trickle.abort();
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_reaches_the_client() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_early").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).start().await?;
    let token = gateway.admin().await?;
    let (sender, body) = body();
    let request = gateway
        .post("/api/v1/catalog/refuses")
        .bearer_auth(&token)
        .header("content-type", MULTIPART)
        .body(body);
    sender.send(Ok(Bytes::from_static(b"the beginning"))).await?;
    let response = timeout(SOON, request.send()).await??;
    assert_eq!(response.status(), 422);
    assert_eq!(response.json::<Value>().await?["error"], "no");
    Ok(())
}

#[tokio::test]
async fn a_caller_sends_so_many_files_at_a_time() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_uploads").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with("UPLOAD_CONNECTIONS", "2").start().await?;
    let (token, other) = (gateway.admin().await?, gateway.user("operator", None).await?);
    let upload = |token: &str, body: Body| {
        let request = gateway.post("/api/v1/catalog/upload").bearer_auth(token);
        request.header("content-type", MULTIPART).body(body).send()
    };
    let mut open = Vec::new();
    for number in 1..=2 {
        let (sender, body) = body();
        let answer = tokio::spawn(upload(&token, body));
        sender.send(Ok(Bytes::from_static(b"x"))).await?;
        until("the upload is under way", SOON, async || upstream.received() >= number).await?;
        open.push((sender, answer));
    }
    let third = problem(upload(&token, "x".into()).await?).await?;
    assert_eq!(third["status"], 429);
    assert_eq!(third["code"], "too_many_requests");
    assert_eq!(upload(&other, "x".into()).await?.status(), 202, "others have places of their own");
    assert_eq!(gateway.get("/api/v1/catalog/echo").bearer_auth(&token).send().await?.status(), 200);

    let (sender, answer) = open.pop().expect("one of the two");
    drop(sender);
    assert_eq!(answer.await??.status(), 202);
    assert_eq!(upload(&token, "x".into()).await?.status(), 202, "its place is free again");
    Ok(())
}

#[tokio::test]
async fn a_service_without_room_for_files_is_asked_for_all_else() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_uploads_busy").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url)
        .with("BREAKER_THRESHOLD", "2")
        .with("BREAKER_PAUSE_MILLIS", "60000")
        .start()
        .await?;
    let (one, other) = (gateway.user("operator", None).await?, gateway.user("operator", None).await?);
    let get = async |path: &str, token: &str| {
        anyhow::Ok(gateway.get(path).bearer_auth(token).send().await?.status().as_u16())
    };
    let upload = async |token: &str| {
        let request = gateway.post("/api/v1/catalog/upload").bearer_auth(token);
        let answer = request.header("content-type", MULTIPART).body("x").send().await?;
        anyhow::ensure!(answer.headers().contains_key("retry-after"), "{answer:?}");
        let problem: Value = answer.json().await?;
        anyhow::Ok(problem["code"].as_str().unwrap_or_default().to_owned())
    };
    upstream.seen.busy.store(true, Ordering::SeqCst);
    for token in [&one, &other, &one, &other] {
        assert_eq!(upload(token).await?, "uploads_busy", "the service's own answer");
    }
    assert_eq!(get("/api/v1/catalog/echo", &one).await?, 200, "who sends files stops nobody else");
    // Nor does it hide that the service fails.
    assert_eq!(get("/api/v1/catalog/fails", &one).await?, 500);
    assert_eq!(upload(&other).await?, "uploads_busy");
    assert_eq!(get("/api/v1/catalog/fails", &other).await?, 500);
    assert_eq!(get("/api/v1/catalog/echo", &one).await?, 503, "two callers have met errors of its own");
    Ok(())
}
