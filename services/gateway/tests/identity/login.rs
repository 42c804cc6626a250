use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::auth::{Role, Verifier, testing};
use chrono::TimeDelta;
use gateway::identity::Cost;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sea_orm::sqlx;
use serde_json::{Value, json};

use crate::door::{ADMIN, Door, PASSWORD, now, send};

#[tokio::test]
async fn a_login_gives_a_token_that_services_believe() -> anyhow::Result<()> {
    let door = Door::open("login").await?;
    let admin = door.admin().await?;
    let body = json!({
        "username": "Ana.Ruiz", "email": "Ana@Lote.co", "name": "Ana Ruiz", "password": PASSWORD,
        "role": "supplier", "proveedor_id": "PROV001",
    });
    let ana = send(door.post("/api/v1/users", &body).bearer_auth(&admin)).await?.expect(201)?.body;

    for (path, login) in [
        ("/api/v1/auth/login", json!({ "username": "ana.ruiz" })),
        ("/auth/login", json!({ "username": "ANA.RUIZ" })),
        ("/auth/login", json!({ "email": "ana@LOTE.co" })),
        ("/auth/login", json!({ "username": "ana@lote.co" })),
    ] {
        let mut body = login;
        body["password"] = json!(PASSWORD);
        let answer = send(door.post(path, &body)).await?.expect(200)?;
        assert_eq!(answer.body["token_type"], "Bearer");
        assert_eq!(answer.body["expires_in"], 900);
        assert_eq!(answer.body["user"]["id"], ana["id"]);
        assert!(answer.body["user"].get("password_hash").is_none());
        assert_eq!(answer.headers["cache-control"], "no-store");

        let keys = send(door.get("/.well-known/jwks.json")).await?.expect(200)?;
        assert_eq!(keys.headers["cache-control"], "public, max-age=300");
        let verifier = Verifier::fixed("lote-gateway", "lote", &serde_json::from_value(keys.body)?)?;
        let claims = verifier.verify(&answer.text("access_token")).await?;
        assert_eq!(json!(claims.sub), ana["id"]);
        assert_eq!((claims.role, claims.proveedor_id.as_deref()), (Role::Supplier, Some("PROV001")));
        assert_eq!((claims.exp - claims.iat, claims.name.as_deref()), (900, Some("Ana Ruiz")));

        let me =
            send(door.get("/api/v1/auth/me").bearer_auth(answer.text("access_token"))).await?.expect(200)?;
        assert_eq!((&me.body["user"]["username"], &me.body["kind"]), (&json!("ana.ruiz"), &json!("user")));
    }
    assert_eq!(door.audited("login.succeeded").await?, 5);
    Ok(())
}

/// What FastAPI's clients and Swagger UI's "Authorize" send: OAuth 2.0's password grant.
#[tokio::test]
async fn a_form_logs_in_as_json_does() -> anyhow::Result<()> {
    let door = Door::open("form").await?;
    door.admin().await?;
    let log_in = async |fields: &[(&str, &str)]| send(door.request("POST", "/auth/login").form(fields)).await;
    let user = ("username", ADMIN);
    let plain = log_in(&[user, ("password", PASSWORD)]).await?.expect(200)?;
    assert_eq!(plain.body["token_type"], "Bearer");
    let swagger =
        [("grant_type", "password"), user, ("password", PASSWORD), ("scope", ""), ("client_id", "")];
    let token = log_in(&swagger).await?.expect(200)?.text("access_token");
    send(door.get("/api/v1/auth/me").bearer_auth(token)).await?.expect(200)?;

    log_in(&[user, ("password", "otra-clave-larga")]).await?.expect(401)?;
    log_in(&[("grant_type", "client_credentials"), user, ("password", PASSWORD)]).await?.expect(422)?;
    let missing = log_in(&[user]).await?;
    assert!(missing.status == 400 || missing.status == 422, "{}", missing.status);
    Ok(())
}

#[tokio::test]
async fn wrong_unknown_and_disabled_look_the_same() -> anyhow::Result<()> {
    let door = Door::open("refused").await?;
    let admin = door.admin().await?;
    let gone = door.user(&admin, "gone", Role::Viewer).await?;
    door.change(&admin, &gone, &json!({ "disabled": true })).await?.expect(200)?;

    let mut refusals = Vec::new();
    for (username, password) in
        [(ADMIN, "wrong-password"), ("nobody", PASSWORD), ("gone", PASSWORD), ("gone", "wrong-password")]
    {
        let mut answer = door.log_in(username, password).await?.expect(401)?;
        answer.body["instance"] = Value::Null;
        assert_eq!(answer.body["code"], "invalid_credentials");
        refusals.push(answer.body);
    }
    assert!(refusals.windows(2).all(|pair| pair[0] == pair[1]), "{refusals:?}");

    let reasons: Vec<String> =
        sqlx::query_scalar("SELECT details->>'reason' FROM audit WHERE action = 'login.failed' ORDER BY id")
            .fetch_all(&door.database.pool)
            .await?;
    assert_eq!(reasons, ["wrong_password", "unknown_user", "disabled", "wrong_password"]);
    Ok(())
}

#[tokio::test]
async fn an_unknown_user_takes_as_long() -> anyhow::Result<()> {
    let cost = Cost { memory_kib: 19 * 1024, iterations: 6, parallelism: 1 };
    let door = Door::with("timing", now(), |settings| settings.password_cost = cost).await?;
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..3 {
        for (fastest, username) in fastest.iter_mut().zip([ADMIN, "nobody"]) {
            let started = Instant::now();
            door.log_in(username, "wrong-password").await?.expect(401)?;
            *fastest = started.elapsed().min(*fastest);
        }
    }
    let [known, unknown] = fastest;
    assert!(unknown > known / 2, "an unknown user took {unknown:?}, a known one {known:?}");
    Ok(())
}

#[tokio::test]
async fn malformed_logins_are_the_clients_fault() -> anyhow::Result<()> {
    let door = Door::open("malformed").await?;
    for (body, status) in [
        (json!({ "password": PASSWORD }), 422),
        (json!({ "username": "  ", "password": PASSWORD }), 422),
        (json!({ "username": ADMIN }), 400),
        (json!({ "username": ADMIN, "password": 7 }), 400),
        (json!({ "username": ADMIN, "password": "x".repeat(2000) }), 401),
        (json!({ "username": format!("{ADMIN}\u{0}"), "password": PASSWORD }), 400),
    ] {
        send(door.post("/api/v1/auth/login", &body)).await?.expect(status)?;
    }
    let body = json!({ "username": ADMIN, "password": PASSWORD });
    send(door.post("/api/v1/auth/login?session=yes", &body)).await?.expect(422)?;
    Ok(())
}

#[tokio::test]
async fn only_our_own_tokens_open_the_door() -> anyhow::Result<()> {
    let door = Door::open("tokens").await?;
    let good = door.admin().await?;
    let me = async |token: &str| send(door.get("/api/v1/auth/me").bearer_auth(token)).await;
    me(&good).await?.expect(200)?;

    // The same keys, for another audience and by another issuer.
    for replica in [
        door.replica(|settings| settings.audience = "elsewhere".to_owned()).await?,
        door.replica(|settings| settings.issuer = "someone".to_owned()).await?,
    ] {
        me(&replica.admin().await?).await?.expect(401)?;
    }
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims) = (jsonwebtoken::decode_header(&good)?, URL_SAFE_NO_PAD.decode(parts[1])?);
    let claims: Value = serde_json::from_slice(&claims)?;
    let kid = header.kid.unwrap_or_default();

    // Another key under our key's id; no id; the public key as a secret; no signature at all.
    let stranger = testing::Keys::generate();
    let keys = send(door.get("/.well-known/jwks.json")).await?.body;
    let public = URL_SAFE_NO_PAD.decode(keys["keys"][0]["x"].as_str().unwrap_or_default())?;
    let confused = Header { kid: Some(kid.clone()), ..Header::new(Algorithm::HS256) };
    let unsigned = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": "JWT", "kid": kid }).to_string());
    let mut raised = claims.clone();
    raised["role"] = json!("supplier");
    let raised = URL_SAFE_NO_PAD.encode(raised.to_string());
    for forged in [
        stranger.sign(Some(&kid), &claims),
        stranger.sign(None, &claims),
        stranger.sign(Some("unheard-of"), &claims),
        jsonwebtoken::encode(&confused, &claims, &EncodingKey::from_secret(&public))?,
        format!("{unsigned}.{}.", parts[1]),
        format!("{}.{raised}.{}", parts[0], parts[2]),
        "not.a.token".to_owned(),
        String::new(),
    ] {
        let answer = me(&forged).await?.expect(401)?;
        assert!(answer.headers.contains_key("www-authenticate"), "{forged}");
    }
    send(door.get("/api/v1/auth/me")).await?.expect(401)?;
    send(door.get("/api/v1/auth/me").header("authorization", "Basic eDp5")).await?.expect(401)?;
    // A wrong credential is not passed over for a right one.
    let (cookie, _) = door.session(ADMIN).await?;
    let both = door.get("/api/v1/auth/me").header("cookie", cookie).bearer_auth("wrong");
    send(both).await?.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn an_expired_token_is_refused() -> anyhow::Result<()> {
    // Tokens are checked by the machine's clock: this gateway lives an hour ago.
    let door = Door::with("expired", now() - TimeDelta::hours(1), |_| {}).await?;
    let token = door.admin().await?;
    let answer = send(door.get("/api/v1/auth/me").bearer_auth(token)).await?.expect(401)?;
    assert_eq!(answer.body["code"], "invalid_token");
    Ok(())
}

#[tokio::test]
async fn a_hash_of_another_cost_is_made_again_at_login() -> anyhow::Result<()> {
    let door = Door::open("rehash").await?;
    let hash = async || {
        sqlx::query_scalar::<_, String>("SELECT password_hash FROM users")
            .fetch_one(&door.database.pool)
            .await
    };
    assert!(hash().await?.contains("m=64,t=1"));
    let costly = Cost { memory_kib: 64, iterations: 2, parallelism: 1 };
    let replica = door.replica(|settings| settings.password_cost = costly).await?;
    replica.log_in(ADMIN, "wrong-password").await?.expect(401)?;
    assert!(hash().await?.contains("m=64,t=1"));
    replica.log_in(ADMIN, PASSWORD).await?.expect(200)?;
    assert!(hash().await?.contains("m=64,t=2"));
    replica.log_in(ADMIN, PASSWORD).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_ends_all_logins() -> anyhow::Result<()> {
    let door = Door::open("password").await?;
    let (first, second) = (door.log_in(ADMIN, PASSWORD).await?, door.log_in(ADMIN, PASSWORD).await?);
    let (cookie, _) = door.session(ADMIN).await?;
    let change = async |current: &str, new: &str| {
        let body = json!({ "current_password": current, "new_password": new });
        send(door.post("/api/v1/auth/password", &body).bearer_auth(first.text("access_token"))).await
    };
    change("wrong-password", "another-good-one").await?.expect(401)?;
    for weak in ["short", "contraseña123", "root.admin-2031"] {
        assert_eq!(change(PASSWORD, weak).await?.expect(422)?.body["details"][0]["field"], "new_password");
    }
    change(PASSWORD, "another-good-one").await?.expect(204)?;

    door.refresh(&first.text("refresh_token")).await?.expect(401)?;
    door.refresh(&second.text("refresh_token")).await?.expect(401)?;
    send(door.get("/api/v1/auth/me").header("cookie", cookie)).await?.expect(401)?;
    door.log_in(ADMIN, PASSWORD).await?.expect(401)?;
    door.log_in(ADMIN, "another-good-one").await?.expect(200)?;
    assert_eq!(door.audited("password.changed").await?, 1);
    Ok(())
}
