use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack::Namespace;

use crate::{
    harness::{Running, Setup, problem},
    stream::Source,
    upstream::Upstream,
};

#[tokio::test]
async fn callers_are_told_what_they_have_left_and_when_to_come_back() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_limits").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with("RATE_LIMIT_DEFAULT", "3/3600").start().await?;
    let token = gateway.admin().await?;
    let get = async || gateway.get("/api/v1/catalog/echo").bearer_auth(&token).send().await;

    for left in [2, 1, 0] {
        let response = get().await?;
        assert_eq!(response.status(), 200);
        let field = response.headers()["ratelimit"].to_str()?;
        assert!(field.starts_with(&format!("\"default\";r={left};t=")), "{field}");
        assert_eq!(response.headers()["ratelimit-policy"], "\"default\";q=3;w=3600");
    }
    let refused = get().await?;
    let wait: u64 = refused.headers()["retry-after"].to_str()?.parse()?;
    assert!((1100..=1200).contains(&wait), "one of three an hour is earned in 20 minutes, not {wait} s");
    assert!(refused.headers()["ratelimit"].to_str()?.starts_with("\"default\";r=0;t="));
    assert_eq!(problem(refused).await?["code"], "too_many_requests");
    assert_eq!(upstream.requests(), 3);

    // Uploads, and callers without a name, have accounts of their own.
    let upload = gateway
        .post("/api/v1/catalog/upload")
        .bearer_auth(&token)
        .header("content-type", "multipart/form-data; boundary=x")
        .body("x")
        .send()
        .await?;
    assert!(upload.headers()["ratelimit-policy"].to_str()?.starts_with("\"upload\";"));
    // So have vendors, whose webhooks all come from few addresses.
    let webhook = gateway.post("/webhooks/telnyx?message=x").body("{}").send().await?;
    assert_eq!(webhook.headers()["ratelimit-policy"], "\"webhook\";q=60000;w=60");
    assert_eq!(gateway.get("/api/v1/catalog/echo").send().await?.status(), 401);
    // Health and keys can be read as often as one likes.
    let open = gateway.get("/.well-known/jwks.json").send().await?.error_for_status()?;
    assert!(!open.headers().contains_key("ratelimit"));
    // Documentation is large: it counts to whoever reads it, by address.
    let documented = gateway.get("/docs/").send().await?.error_for_status()?;
    assert!(documented.headers().contains_key("ratelimit"));
    Ok(())
}

#[tokio::test]
async fn logins_are_limited_by_address_as_trusted_proxies_tell_it() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_logins").await?;
    let upstream = Upstream::start().await?;
    let setup = || Setup::new(&namespace, &upstream.url).with("RATE_LIMIT_AUTH", "2/3600");
    let trusting = setup().with("TRUSTED_PROXIES", "127.0.0.0/8").start().await?;
    let body = json!({ "username": "nobody", "password": "wrong-wrong-wrong" });
    for (client, status) in [("1.1.1.1", 401), ("1.1.1.1", 401), ("1.1.1.1", 429), ("2.2.2.2", 401)] {
        let request = trusting.post("/api/v1/auth/login").header("x-forwarded-for", client).json(&body);
        assert_eq!(request.send().await?.status(), status, "{client}");
    }
    let plain = setup().start().await?;
    for (client, status) in [("1.1.1.1", 401), ("2.2.2.2", 401), ("3.3.3.3", 429)] {
        let request = plain.post("/auth/login").header("x-forwarded-for", client).json(&body);
        assert_eq!(request.send().await?.status(), status, "a made-up {client} is still the same client");
    }
    Ok(())
}

#[tokio::test]
async fn other_origins_need_to_be_configured() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_cors").await?;
    let upstream = Upstream::start().await?;
    let gateway =
        Setup::new(&namespace, &upstream.url).with("CORS_ORIGINS", "https://console.example").start().await?;
    let preflight = |origin: &str| {
        gateway
            .client
            .request(reqwest::Method::OPTIONS, format!("{}/api/v1/catalog/echo", gateway.url))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,idempotency-key")
    };
    let allowed = preflight("https://console.example").send().await?;
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://console.example");
    assert_eq!(allowed.headers()["access-control-allow-credentials"], "true");
    let other = preflight("https://evil.example").send().await?;
    assert!(!other.headers().contains_key("access-control-allow-origin"));
    let told: Value = serde_json::from_slice(&other.bytes().await?)?;
    assert_eq!(told["code"], "origin_not_allowed");
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("CORS_ORIGINS")), "{told}");
    // Refusals, too, can be read by the console.
    let refused =
        gateway.get("/api/v1/catalog/echo").header("origin", "https://console.example").send().await?;
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["access-control-allow-origin"], "https://console.example");
    let exposed = refused.headers()["access-control-expose-headers"].to_str()?.to_ascii_lowercase();
    for name in ["etag", "retry-after", "x-csrf-token", "x-data-version", "x-data-as-of", "x-cache"] {
        assert!(
            exposed.split(',').any(|exposed| exposed.trim() == name),
            "pages can't read {name}: {exposed}"
        );
    }

    let closed = Setup::new(&namespace, &upstream.url).start().await?;
    let refused =
        closed.get("/api/v1/catalog/echo").header("origin", "https://console.example").send().await?;
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    Ok(())
}

#[tokio::test]
async fn a_user_has_one_budget_by_whatever_credential_or_spelling() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_budget").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url)
        .with("RATE_LIMIT_DEFAULT", "4/3600")
        .with("RATE_LIMIT_AUTH", "3/3600")
        .start()
        .await?;
    let token = gateway.admin().await?;
    let mut keys = Vec::new();
    for _ in 0..2 {
        keys.push(gateway.api_key(&token).await?);
    }
    for (key, status) in [(&keys[0], 200), (&keys[1], 200), (&keys[0], 429), (&keys[1], 429)] {
        let response = gateway.get("/api/v1/catalog/echo").header("x-api-key", key).send().await?;
        assert_eq!(response.status(), status);
    }
    assert_eq!(gateway.get("/api/v1/catalog/echo").bearer_auth(&token).send().await?.status(), 429);

    let body = json!({ "refresh_token": "rt_unheard-of" });
    for (path, status) in [("/auth/refresh", 401), ("/auth/%72efresh", 401), ("/api/v1/auth/refres%68", 429)]
    {
        assert_eq!(gateway.post(path).json(&body).send().await?.status(), status, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_guesses_is_slowed_and_locks_out_nobody_who_is_known() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_guesses").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url)
        .with("TRUSTED_PROXIES", "127.0.0.0/8")
        .with("RATE_LIMIT_REFUSED", "3/3600")
        .start()
        .await?;
    let token = gateway.admin().await?;
    let (key, unused) = (gateway.api_key(&token).await?, gateway.api_key(&token).await?);
    let get = |client: &str| gateway.get("/api/v1/catalog/echo").header("x-forwarded-for", client);
    assert_eq!(get("1.1.1.1").header("x-api-key", &key).send().await?.status(), 200);
    let guess = |letter: &str| format!("lote_{}", letter.repeat(43));
    for letter in ["a", "b", "c"] {
        assert_eq!(get("1.1.1.1").header("x-api-key", guess(letter)).send().await?.status(), 401);
    }
    for credential in [&guess("d"), &unused] {
        let refused = get("1.1.1.1").header("x-api-key", credential).send().await?;
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(problem(refused).await?["code"], "too_many_requests");
    }
    let session = get("1.1.1.1").header("cookie", format!("lote_session={}", "x".repeat(43)));
    assert_eq!(session.send().await?.status(), 429);

    assert_eq!(get("1.1.1.1").header("x-api-key", &key).send().await?.status(), 200, "it is known to hold");
    assert_eq!(get("1.1.1.1").bearer_auth(&token).send().await?.status(), 200, "a token is not looked up");
    assert_eq!(get("2.2.2.2").header("x-api-key", &unused).send().await?.status(), 200, "another address");

    // Who is at that address logs in, and works.
    let body = json!({ "username": "root", "password": "violeta-y-nube-77", "session": true });
    let login = gateway.post("/api/v1/auth/login").header("x-forwarded-for", "1.1.1.1").json(&body);
    let login = login.send().await?.error_for_status()?;
    let cookies = login.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
    let mut pairs = cookies.filter_map(|cookie| cookie.split(';').next());
    let session = pairs.find(|pair| pair.starts_with("lote_session="));
    let session = session.ok_or_else(|| anyhow::anyhow!("no session"))?;
    assert_eq!(get("1.1.1.1").header("cookie", session).send().await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn a_script_with_a_key_that_does_not_hold_locks_nobody_of_its_address_out() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_broken_script").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with("RATE_LIMIT_REFUSED", "2/3600").start().await?;
    let key = gateway.api_key(&gateway.admin().await?).await?;
    let get = |key: &str| gateway.get("/api/v1/catalog/echo").header("x-api-key", key).send();
    for key in [format!("lote_{}", "x".repeat(43)), "another product's".to_owned()] {
        for _ in 0..10 {
            assert_eq!(get(&key).await?.status(), 401, "{key}");
        }
    }
    assert_eq!(get(&key).await?.status(), 200);
    Ok(())
}

/// A stream that is let in well before the gateway's next word to one that is silent, which comes after 15 s.
async fn let_in_at_once(gateway: &Running, token: &str) -> anyhow::Result<Source> {
    let end = Instant::now() + Duration::from_secs(8);
    loop {
        match Source::open(gateway, token, None).await {
            Ok(source) => return source.settled().await,
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[tokio::test]
async fn a_place_of_a_stream_is_free_as_soon_as_its_client_has_left() -> anyhow::Result<()> {
    let namespace = Namespace::create("edge_stream_left").await?;
    let upstream = Upstream::start().await?;
    let gateway = Setup::new(&namespace, &upstream.url).with("STREAM_CONNECTIONS", "2").start().await?;
    let token = gateway.user("viewer", None).await?;
    let stays = Source::come(&gateway, &token, None).await?.settled().await?;
    let mut page = let_in_at_once(&gateway, &token).await?;
    // A page that is loaded again and again.
    for _ in 0..3 {
        let third = gateway.get("/api/v1/stream").bearer_auth(&token).send().await?;
        assert_eq!(problem(third).await?["code"], "too_many_requests");
        drop(page);
        page = let_in_at_once(&gateway, &token).await?;
    }
    drop((stays, page));
    gateway.stop().await
}
