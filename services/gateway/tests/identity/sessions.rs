use chassis::auth::Role;
use chrono::TimeDelta;
use sea_orm::sqlx;
use serde_json::json;

use crate::door::{ADMIN, Door, PASSWORD, send};

#[tokio::test]
async fn a_session_is_a_cookie_that_scripts_cannot_read() -> anyhow::Result<()> {
    let door = Door::open("cookie").await?;
    let body = json!({ "username": ADMIN, "password": PASSWORD });
    let answer = send(door.post("/auth/login?session=cookie", &body)).await?.expect(200)?;
    assert!(answer.body.get("access_token").is_none() && answer.body.get("refresh_token").is_none());
    let session = answer.cookie("lote_session").unwrap_or_default();
    for attribute in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"] {
        assert!(session.contains(attribute), "{session}");
    }
    let csrf = answer.cookie("lote_csrf").unwrap_or_default();
    assert!(!csrf.contains("HttpOnly") && csrf.contains("SameSite=Lax") && csrf.contains("Secure"));
    assert!(csrf.starts_with(&answer.text("csrf_token")));
    assert_eq!(answer.headers["x-csrf-token"], answer.text("csrf_token").as_str());

    let value = session.split(';').next().unwrap_or_default();
    let stored: Vec<Vec<u8>> = sqlx::query_scalar("SELECT session_digest FROM token_families")
        .fetch_all(&door.database.pool)
        .await?;
    assert!(stored.iter().all(|digest| digest.len() == 32 && !value.as_bytes().starts_with(digest)));
    Ok(())
}

#[tokio::test]
async fn a_cookie_without_its_csrf_token_only_reads() -> anyhow::Result<()> {
    let door = Door::open("csrf").await?;
    let ((cookie, csrf), (_, other)) = (door.session(ADMIN).await?, door.session(ADMIN).await?);
    let me = send(door.get("/api/v1/auth/me").header("cookie", &cookie)).await?.expect(200)?;
    assert_eq!(me.headers["x-csrf-token"], csrf.as_str());

    let create = |name: &str| {
        let body = json!({ "username": name, "password": PASSWORD, "role": "viewer" });
        door.post("/api/v1/users", &body).header("cookie", &cookie)
    };
    assert_eq!(send(create("none")).await?.expect(403)?.body["code"], "csrf");
    // Of another session, altered, and planted as a cookie alone.
    send(create("other").header("x-csrf-token", &other)).await?.expect(403)?;
    send(create("wrong").header("x-csrf-token", format!("{csrf}x"))).await?.expect(403)?;
    let planted = door
        .post("/api/v1/users", &json!({ "username": "planted", "password": PASSWORD, "role": "viewer" }))
        .header("cookie", format!("{cookie}; lote_csrf={csrf}"));
    send(planted).await?.expect(403)?;
    send(create("right").header("x-csrf-token", &csrf)).await?.expect(201)?;
    for (method, path) in
        [("PATCH", "/api/v1/users/x"), ("DELETE", "/api/v1/api-keys/x"), ("POST", "/auth/logout")]
    {
        let status =
            send(door.request(method, path).header("cookie", &cookie).json(&json!({}))).await?.status;
        // A path without such an id is refused before anyone looks at the cookie.
        assert!(matches!(status, 403 | 404), "{method} {path}: {status}");
    }
    send(door.request("POST", "/auth/logout").header("cookie", &cookie)).await?.expect(403)?;
    let users: i64 = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&door.database.pool).await?;
    assert_eq!(users, 2);
    Ok(())
}

#[tokio::test]
async fn a_session_ends_with_logout_idleness_or_its_user() -> anyhow::Result<()> {
    let door = Door::open("ends").await?;
    let admin = door.admin().await?;
    let user = door.user(&admin, "luis", Role::Viewer).await?;
    let me = async |cookie: &str| send(door.get("/auth/me").header("cookie", cookie)).await;

    let (cookie, csrf) = door.session("luis").await?;
    let logout = door.request("POST", "/auth/logout").header("cookie", &cookie).header("x-csrf-token", &csrf);
    let answer = send(logout).await?.expect(204)?;
    assert!(answer.cookie("lote_session").unwrap_or_default().starts_with("; "), "{answer:?}");
    assert!(answer.cookie("lote_session").unwrap_or_default().contains("Max-Age=0"));
    me(&cookie).await?.expect(401)?;

    let (cookie, _) = door.session("luis").await?;
    for _ in 0..3 {
        door.advance(TimeDelta::hours(11));
        me(&cookie).await?.expect(200)?;
    }
    door.advance(TimeDelta::hours(12));
    me(&cookie).await?.expect(401)?;

    let (cookie, _) = door.session("luis").await?;
    me(&cookie).await?.expect(200)?;
    door.change(&door.admin().await?, &user, &json!({ "disabled": true })).await?.expect(200)?;
    me(&cookie).await?.expect(401)?;
    me("lote_session=unheard-of").await?.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn a_cookie_speaks_to_the_services_with_a_token() -> anyhow::Result<()> {
    let door = Door::open("speaks").await?;
    let (cookie, _) = door.session(ADMIN).await?;
    let (name, value) = cookie.split_once('=').unwrap_or_default();
    let request = actix_web::test::TestRequest::get()
        .cookie(actix_web::cookie::Cookie::new(name.to_owned(), value.to_owned()))
        .to_http_request();
    let caller = door.identity.caller_of(&request).await?.ok_or_else(|| anyhow::anyhow!("a caller"))?;
    assert!(!format!("{caller:?}").contains(&caller.token), "not printed");
    let verifier = chassis::auth::Verifier::fixed("lote-gateway", "lote", &door.identity.jwks()?)?;
    assert_eq!(verifier.verify(&caller.token).await?, caller.claims);
    assert_eq!(caller.claims.role, Role::Admin);
    Ok(())
}

#[tokio::test]
async fn an_access_token_ends_with_its_login() -> anyhow::Result<()> {
    let door = Door::open("token_ends").await?;
    let admin = door.admin().await?;
    let me = async |door: &Door, token: &str| send(door.get("/auth/me").bearer_auth(token)).await;
    let own = json!({ "current_password": PASSWORD, "new_password": "otra-clave-muy-larga-9" });
    for (name, change) in [
        ("logout", None),
        ("own.password", None),
        ("reset", Some(json!({ "password": "otra-clave-muy-larga-9" }))),
        ("disabled", Some(json!({ "disabled": true }))),
        ("demoted", Some(json!({ "role": "viewer", "proveedor_id": null }))),
        ("rebound", Some(json!({ "proveedor_id": "PROV002" }))),
        ("deleted", None),
    ] {
        let user = door.user(&admin, name, Role::Supplier).await?;
        let login = door.log_in(name, PASSWORD).await?.expect(200)?;
        let other = door.log_in(name, PASSWORD).await?.expect(200)?.text("access_token");
        let token = login.text("access_token");
        me(&door, &token).await?.expect(200)?;
        match (name, change) {
            (_, Some(change)) => drop(door.change(&admin, &user, &change).await?.expect(200)?),
            ("logout", _) => {
                let body = json!({ "refresh_token": login.text("refresh_token") });
                send(door.post("/auth/logout", &body)).await?.expect(204)?;
            }
            ("own.password", _) => {
                send(door.post("/auth/password", &own).bearer_auth(&token)).await?.expect(204)?;
            }
            _ => {
                let path = format!("/api/v1/users/{}", user["id"].as_str().unwrap_or_default());
                send(door.request("DELETE", &path).bearer_auth(&admin)).await?.expect(204)?;
            }
        }
        let request = actix_web::test::TestRequest::get()
            .insert_header(("authorization", format!("Bearer {token}")))
            .to_http_request();
        assert!(door.identity.caller_of(&request).await.is_err(), "{name}: without asking the database");
        // One that starts now learns it from the database.
        me(&door.replica(|_| {}).await?, &token).await?.expect(401)?;
        me(&door, &other).await?.expect(if name == "logout" { 200 } else { 401 })?;
    }
    // Someone who comes back at once, in the same second, is let in.
    let back = door.log_in("own.password", "otra-clave-muy-larga-9").await?.text("access_token");
    me(&door, &back).await?.expect(200)?;

    // Kept for as long as a token could still be believed, and no longer.
    let kept = async || {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM ended_sessions")
            .fetch_one(&door.database.pool)
            .await
    };
    assert!(kept().await? > 0);
    door.advance(TimeDelta::minutes(17));
    door.identity.maintain_once().await?;
    assert_eq!(kept().await?, 0);
    Ok(())
}
