use std::{sync::Arc, time::Duration};

use actix_web::{HttpResponse, web};
use chassis::{
    Problem,
    auth::{Caller, Role, testing::Keys},
    config::HttpSettings,
    http::{Health, Json, Query, get_only},
    http_client,
    idempotency::IdempotencyKey,
};
use reqwest::{StatusCode, header};
use sea_orm::sqlx;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};

use crate::support::{Running, settings, start, start_with};

#[derive(Deserialize)]
struct Body {
    #[expect(dead_code, reason = "only its parsing matters")]
    amount: u32,
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/json", web::post().to(async |_: Json<Body>| HttpResponse::Ok().finish()))
        .route("/query", web::get().to(async |_: Query<Body>| HttpResponse::Ok().finish()))
        .route("/items/{id}", web::get().to(async |_: web::Path<u32>| HttpResponse::Ok().finish()))
        .route(
            "/key",
            web::post().to(async |key: IdempotencyKey| HttpResponse::Ok().body(key.0.unwrap_or_default())),
        )
        .route(
            "/id",
            web::get().to(async || HttpResponse::Ok().body(chassis::http::request_id().unwrap_or_default())),
        )
        .route("/boom", web::get().to(async || fails(anyhow::anyhow!("the password is hunter2"))))
        .route(
            "/down",
            web::get().to(async || fails(anyhow::Error::new(sqlx::Error::PoolTimedOut).context("listing"))),
        )
        .route("/me", web::get().to(async |caller: Caller| HttpResponse::Ok().body(caller.id().to_owned())))
        .service(get_only("/only-get", async || HttpResponse::Ok().body("thirteen byte")));
}

fn fails(error: anyhow::Error) -> Result<HttpResponse, Problem> {
    Err(error.into())
}

fn server() -> anyhow::Result<Running> {
    start(Health::new("test"), routes)
}

/// The problem in an answer, after checking what every problem has.
async fn problem(answer: reqwest::Response) -> anyhow::Result<Value> {
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    let status = answer.status().as_u16();
    let id = answer.headers()["x-request-id"].to_str()?.to_owned();
    let body: Value = answer.json().await?;
    assert_eq!(body["status"], status);
    assert_eq!(body["instance"], id.as_str(), "{body}");
    assert_eq!(body["error"], body["detail"]);
    assert_eq!(body["type"], format!("urn:lote:problem:{}", body["code"].as_str().expect("a code")));
    Ok(body)
}

#[tokio::test]
async fn whatever_goes_wrong_is_a_problem() -> anyhow::Result<()> {
    let (server, client) = (server()?, http_client());
    let json = |body: &'static str| {
        client.post(server.at("/json")).header(header::CONTENT_TYPE, "application/json").body(body)
    };
    for (request, status, code) in [
        (client.get(server.at("/nowhere")), 404, "not_found"),
        (client.post(server.at("/only-get")), 405, "method_not_allowed"),
        (client.get(server.at("/items/abc")), 404, "not_found"),
        (client.get(server.at("/query?amount=much")), 400, "invalid_query"),
        (client.get(server.at("/query?amount=1&amuont=2")), 400, "unknown_parameter"),
        (client.get(server.at("/query?amount=%00")), 400, "invalid_text"),
        (client.get(server.at("/only-get?x=%ff%fe")), 400, "invalid_text"),
        (client.get(server.at("/items/a%00b")), 400, "invalid_text"),
        (client.get(server.at("/nowhere/%ff")), 400, "invalid_text"),
        (json(r#"{"amount":1,"mount":2}"#), 400, "unknown_field"),
        (json("{\"amount\":\"a\\u0000\"}"), 400, "invalid_text"),
        (json("{"), 400, "invalid_json"),
        (json(r#"{"amount":"x"}"#), 400, "invalid_json"),
        (client.post(server.at("/json")).body("amount=1"), 415, "unsupported_media_type"),
        (
            client.post(server.at("/json")).json(&json!({ "amount": "9".repeat(2000) })),
            413,
            "payload_too_large",
        ),
        (client.post(server.at("/key")).header("idempotency-key", "a b"), 400, "invalid_idempotency_key"),
        (client.get(server.at("/boom")), 500, "internal"),
        (client.get(server.at("/down")), 503, "database_unavailable"),
        // No Verifier is configured here: our mistake, not the caller's.
        (client.get(server.at("/me")).bearer_auth("x"), 500, "internal"),
        (client.get(server.at("/me")), 401, "unauthorized"),
    ] {
        let answer = request.send().await?;
        assert_eq!(answer.status().as_u16(), status, "{code}");
        assert_eq!(problem(answer).await?["code"], code);
    }
    Ok(())
}

#[tokio::test]
async fn a_body_that_trickles_is_not_waited_for() -> anyhow::Result<()> {
    let settings = HttpSettings { body_timeout: Duration::from_millis(300), ..settings() };
    let server = start_with(&settings, Health::new("test"), routes)?;
    let mut slow = TcpStream::connect(server.url.trim_start_matches("http://")).await?;
    let head =
        "POST /json HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await?;
    let mut status = [0; 12];
    tokio::time::timeout(Duration::from_secs(10), slow.read_exact(&mut status)).await??;
    assert_eq!(&status, b"HTTP/1.1 408");
    Ok(())
}

#[tokio::test]
async fn a_body_that_says_it_is_long_and_does_not_come_is_not_waited_for() -> anyhow::Result<()> {
    let patience = Duration::from_millis(300);
    let settings = HttpSettings { body_limit: 1 << 20, body_timeout: patience, ..settings() };
    let server = start_with(&settings, Health::new("test"), routes)?;
    let mut silent = TcpStream::connect(server.url.trim_start_matches("http://")).await?;
    // A mebibyte would have 17 minutes.
    let head = "POST /json HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1048576\r\n\r\n{";
    silent.write_all(head.as_bytes()).await?;
    let mut status = [0; 12];
    tokio::time::timeout(Duration::from_secs(10), silent.read_exact(&mut status)).await??;
    assert_eq!(&status, b"HTTP/1.1 408");
    Ok(())
}

#[tokio::test]
async fn a_long_body_over_a_slow_line_has_the_time_that_it_takes() -> anyhow::Result<()> {
    let patience = Duration::from_millis(300);
    let settings = HttpSettings { body_limit: 1 << 16, body_timeout: patience, ..settings() };
    let server = start_with(&settings, Health::new("test"), routes)?;
    let mut slow = TcpStream::connect(server.url.trim_start_matches("http://")).await?;
    let body = format!("{{\"amount\": 1{}}}", " ".repeat(20_000));
    let length = body.len();
    let head = format!(
        "POST /json HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    // Two seconds' worth, and then less than that of silence.
    let (first, rest) = body.split_at(2_048);
    slow.write_all(format!("{head}{first}").as_bytes()).await?;
    tokio::time::sleep(3 * patience).await;
    slow.write_all(rest.as_bytes()).await?;
    let mut status = [0; 12];
    tokio::time::timeout(Duration::from_secs(10), slow.read_exact(&mut status)).await??;
    assert_eq!(&status, b"HTTP/1.1 200");
    Ok(())
}

#[tokio::test]
async fn a_problem_says_what_helps_and_hides_what_is_inside() -> anyhow::Result<()> {
    let (server, client) = (server()?, http_client());
    let boom = client.get(server.at("/boom")).send().await?.text().await?;
    assert!(!boom.contains("hunter2"), "{boom}");

    let down = client.get(server.at("/down")).send().await?;
    assert_eq!(down.headers()[header::RETRY_AFTER], "2");
    let down = problem(down).await?;
    assert_eq!(down["error"], "Servicio no disponible");
    assert!(!down.to_string().contains("pool"), "{down}");

    let nobody = client.get(server.at("/me")).send().await?;
    assert_eq!(nobody.headers()[header::WWW_AUTHENTICATE], "Bearer");
    let wrong = client.post(server.at("/only-get")).send().await?;
    assert_eq!(wrong.headers()[header::ALLOW], "GET, HEAD");
    let get = client.get(server.at("/only-get")).send().await?;
    let head = client.head(server.at("/only-get")).send().await?;
    assert_eq!(
        (head.status(), &head.headers()[header::CONTENT_LENGTH]),
        (get.status(), &get.headers()[header::CONTENT_LENGTH])
    );
    assert_eq!(head.text().await?, "");

    let detailed = Problem::unprocessable("rows", "Filas inválidas").with_details(json!([{ "fila": 2 }]));
    let response = actix_web::ResponseError::error_response(&detailed);
    let bytes =
        actix_web::body::to_bytes(response.into_body()).await.map_err(|_| anyhow::anyhow!("no body"))?;
    assert_eq!(serde_json::from_slice::<Value>(&bytes)?["details"][0]["fila"], 2);
    Ok(())
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_is_replaced() -> anyhow::Result<()> {
    let (server, client) = (server()?, http_client());
    let ask = async |id: &str| -> anyhow::Result<(String, String)> {
        let answer = client.get(server.at("/id")).header("x-request-id", id).send().await?;
        let header = answer.headers()["x-request-id"].to_str()?.to_owned();
        Ok((header, answer.text().await?))
    };
    assert_eq!(ask("order-2025:1").await?, ("order-2025:1".into(), "order-2025:1".into()));
    for bad in ["short", "with space in it", "<script>alert(1)</script>", &"x".repeat(129)] {
        let (header, seen) = ask(bad).await?;
        assert_eq!(header, seen);
        assert_eq!(uuid::Uuid::parse_str(&seen)?.get_version_num(), 7, "{bad}");
    }
    Ok(())
}

#[tokio::test]
async fn every_answer_is_hardened_and_counted_by_its_route() -> anyhow::Result<()> {
    let (server, client) = (server()?, http_client());
    let answer = client.get(server.at("/items/77")).send().await?;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.headers()[name], value);
    }
    assert!(answer.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    client.get(server.at("/wp-login.php")).send().await?;
    client.request(reqwest::Method::from_bytes(b"BREW")?, server.at("/id")).send().await?;

    let metrics = client.get(server.at("/metrics")).send().await?.text().await?;
    let counted = |labels: &str| metrics.contains(&format!("http_requests_total{{{labels}}}"));
    assert!(counted(r#"method="GET",route="/items/{id}",status="200""#), "{metrics}");
    assert!(counted(r#"method="GET",route="unmatched",status="404""#), "{metrics}");
    assert!(metrics.contains("http_request_duration_seconds_bucket{method=\"GET\",route=\"/items/{id}\""));
    assert!(!metrics.contains("/items/77") && !metrics.contains("wp-login") && !metrics.contains("BREW"));
    Ok(())
}

#[tokio::test]
async fn a_handler_learns_who_calls() -> anyhow::Result<()> {
    let keys = Keys::generate();
    let verifier = keys.verifier();
    let server = start(Health::new("test"), move |config| {
        config.app_data(web::Data::new(verifier.clone()));
        routes(config);
    })?;
    let me = server.at("/me");
    let client = http_client();
    let answer = client.get(&me).bearer_auth(keys.token_for(Role::Viewer)).send().await?;
    assert_eq!((answer.status(), answer.text().await?.as_str()), (StatusCode::OK, "viewer-1"));

    let forged = client.get(&me).bearer_auth(Keys::generate().token_for(Role::Admin)).send().await?;
    assert_eq!(forged.headers()[header::WWW_AUTHENTICATE], "Bearer error=\"invalid_token\"");
    assert_eq!(problem(forged).await?["code"], "invalid_token");
    let basic = client.get(&me).basic_auth("admin", Some("admin")).send().await?;
    assert_eq!(
        (basic.status(), problem(basic).await?["code"].as_str()),
        (StatusCode::UNAUTHORIZED, Some("unauthorized"))
    );
    let twice = client
        .get(&me)
        .bearer_auth(keys.token_for(Role::Viewer))
        .header(header::AUTHORIZATION, format!("Bearer {}", keys.token_for(Role::Admin)));
    assert_eq!(twice.send().await?.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_takes_no_more() -> anyhow::Result<()> {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (handler_begun, handler_go_on) = (begun.clone(), go_on.clone());
    let server = start(Health::new("test"), move |config| {
        let (begun, go_on) = (handler_begun.clone(), handler_go_on.clone());
        config.route(
            "/slow",
            web::get().to(move || {
                let (begun, go_on) = (begun.clone(), go_on.clone());
                async move {
                    begun.notify_one();
                    go_on.notified().await;
                    HttpResponse::Ok().body("finished")
                }
            }),
        );
    })?;
    let url = server.at("/slow");
    let slow = tokio::spawn(async move { http_client().get(url).send().await?.text().await });
    begun.notified().await;
    server.shutdown.cancel();
    let health = server.at("/health");
    stack::wait::until("new connections are refused", Duration::from_secs(5), async || {
        // A client of its own: a kept-alive connection would still be served.
        reqwest::Client::builder().build().expect("a client").get(&health).send().await.is_err()
    })
    .await?;
    go_on.notify_one();
    assert_eq!(slow.await??, "finished");
    server.task.await?
}

#[tokio::test]
async fn an_answer_comes_whatever_follows_its_request() -> anyhow::Result<()> {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (handler_begun, handler_go_on) = (begun.clone(), go_on.clone());
    let server = start(Health::new("test"), move |config| {
        let (begun, go_on) = (handler_begun.clone(), handler_go_on.clone());
        config.route(
            "/slow",
            web::get().to(move || {
                let (begun, go_on) = (begun.clone(), go_on.clone());
                async move {
                    begun.notify_one();
                    go_on.notified().await;
                    HttpResponse::Ok().body("finished")
                }
            }),
        );
    })?;
    // Nothing, as of a client that closes its own direction; and the rest of a body that is longer than it was said to be.
    for (follows, closes) in [("", true), ("not a request\r\n\r\n", false)] {
        let mut client = TcpStream::connect(server.url.trim_start_matches("http://")).await?;
        client.write_all(format!("GET /slow HTTP/1.1\r\nhost: x\r\n\r\n{follows}").as_bytes()).await?;
        begun.notified().await;
        if closes {
            client.shutdown().await?;
        }
        go_on.notify_one();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await?;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("finished"), "{answer}");
    }
    Ok(())
}
