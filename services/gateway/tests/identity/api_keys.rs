use actix_web::test::TestRequest;
use chassis::auth::{Role, Verifier};
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sqlx;
use serde_json::{Value, json};

use crate::door::{Answer, Door, PASSWORD, send};

async fn create(door: &Door, token: &str, body: &Value) -> anyhow::Result<Answer> {
    send(door.post("/api/v1/api-keys", body).bearer_auth(token)).await
}

async fn me(door: &Door, key: &str) -> anyhow::Result<Answer> {
    send(door.get("/auth/me").header("x-api-key", key)).await
}

#[tokio::test]
async fn a_key_is_shown_once_and_says_what_it_may() -> anyhow::Result<()> {
    let door = Door::open("key").await?;
    let admin = door.admin().await?;
    let body = json!({
        "name": "scheduler", "role": "supplier", "proveedor_id": "PROV001",
        "scopes": ["catalog:write", "catalog:read", "catalog:read"],
    });
    let created = create(&door, &admin, &body).await?.expect(201)?;
    let key = created.text("key");
    assert!(key.starts_with(&created.text("prefix")) && key.starts_with("lote_") && key.len() == 48, "{key}");
    assert_eq!(created.body["scopes"], json!(["catalog:read", "catalog:write"]));

    let listed = send(door.get("/api/v1/api-keys").bearer_auth(&admin)).await?.expect(200)?;
    assert_eq!(listed.body["items"][0]["id"], created.body["id"]);
    let row: String =
        sqlx::query_scalar("SELECT to_jsonb(k)::text FROM api_keys k").fetch_one(&door.database.pool).await?;
    let hidden = &key[created.text("prefix").len()..];
    assert!(!listed.body.to_string().contains(hidden) && !row.contains(hidden));

    for request in [
        door.get("/auth/me").header("x-api-key", &key),
        door.get("/auth/me").header("authorization", format!("ApiKey {key}")),
        door.get("/auth/me").header("authorization", format!("apikey {key}")),
    ] {
        let me = send(request).await?.expect(200)?.body;
        assert_eq!((&me["kind"], &me["id"]), (&json!("api_key"), &created.body["id"]));
        assert_eq!((&me["role"], &me["proveedor_id"]), (&json!("supplier"), &json!("PROV001")));
    }
    // What the services get to see: a token with the key's bounds, and not the key.
    let request = TestRequest::get().insert_header(("x-api-key", key.as_str())).to_http_request();
    let caller = door.identity.caller_of(&request).await?.ok_or_else(|| anyhow::anyhow!("a caller"))?;
    let claims =
        Verifier::fixed("lote-gateway", "lote", &door.identity.jwks()?)?.verify(&caller.token).await?;
    assert_eq!(json!(claims.sub), created.body["id"]);
    assert_eq!(
        (claims.role, claims.scopes),
        (Role::Supplier, vec!["catalog:read".into(), "catalog:write".into()])
    );

    for wrong in ["", "lote_", &key[..47], &format!("{key}x"), "lote_unheard-of"] {
        me(&door, wrong).await?.expect(401)?;
    }
    let bearer = send(door.get("/auth/me").bearer_auth(&key)).await?;
    bearer.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn a_key_ends_at_once_when_revoked_and_in_time_when_it_expires() -> anyhow::Result<()> {
    let door = Door::open("ends").await?;
    let replica = door.replica(|_| {}).await?;
    let admin = door.admin().await?;
    let lasting = create(&door, &admin, &json!({ "name": "lasting" })).await?.expect(201)?;
    let end = door.clock.now() + TimeDelta::minutes(5);
    let passing = json!({ "name": "passing", "expires_at": end });
    let passing = create(&door, &admin, &passing).await?.expect(201)?.text("key");

    me(&replica, &lasting.text("key")).await?.expect(200)?;
    let path = format!("/api/v1/api-keys/{}", lasting.text("id"));
    for _ in 0..2 {
        send(door.request("DELETE", &path).bearer_auth(&admin)).await?.expect(204)?;
    }
    me(&replica, &lasting.text("key")).await?.expect(401)?;
    assert_eq!(door.audited("api_key.revoked").await?, 1);

    // Nor does the token made from it outlive it.
    let request = TestRequest::get().insert_header(("x-api-key", passing.as_str())).to_http_request();
    let caller = door.identity.caller_of(&request).await?.ok_or_else(|| anyhow::anyhow!("a caller"))?;
    assert_eq!(caller.claims.exp, end.timestamp());
    door.advance(TimeDelta::minutes(5));
    me(&door, &passing).await?.expect(401)?;
    let past = json!({ "name": "past", "expires_at": door.clock.now() });
    create(&door, &admin, &past).await?.expect(422)?;
    Ok(())
}

#[tokio::test]
async fn every_key_ends_and_a_user_has_twenty() -> anyhow::Result<()> {
    let door = Door::open("twenty").await?;
    let admin = door.admin().await?;
    let first = create(&door, &admin, &json!({ "name": "first" })).await?.expect(201)?;
    let end: DateTime<Utc> = first.text("expires_at").parse()?;
    assert_eq!(end, door.clock.now() + TimeDelta::days(90));
    let late = json!({ "name": "late", "expires_at": door.clock.now() + TimeDelta::days(366) });
    create(&door, &admin, &late).await?.expect(422)?;
    let misspelled = json!({ "name": "misspelled", "scopes": ["catalog:read", "catalog:reed"] });
    let refused = create(&door, &admin, &misspelled).await?.expect(422)?;
    assert!(refused.text("detail").contains("catalog:reed"), "{}", refused.body);

    let more = json!({ "name": "more" });
    for _ in 1..20 {
        create(&door, &admin, &more).await?.expect(201)?;
    }
    assert_eq!(create(&door, &admin, &more).await?.expect(409)?.body["code"], "too_many_api_keys");
    let path = format!("/api/v1/api-keys/{}", first.text("id"));
    send(door.request("DELETE", &path).bearer_auth(&admin)).await?.expect(204)?;
    create(&door, &admin, &more).await?.expect(201)?;

    // One from before keys had to end does so as well.
    let old = "UPDATE api_keys SET expires_at = NULL WHERE revoked_at IS NULL";
    sqlx::query(old).execute(&door.database.pool).await?;
    let key = send(door.get("/api/v1/api-keys?limit=1").bearer_auth(&admin)).await?.expect(200)?;
    let id = key.body["items"][0]["id"].as_str().unwrap_or_default().parse()?;
    assert!(door.identity.key_stands(id).await?);
    door.advance(TimeDelta::days(366));
    assert!(!door.identity.key_stands(id).await?);
    Ok(())
}

#[tokio::test]
async fn a_key_never_exceeds_its_maker() -> anyhow::Result<()> {
    let door = Door::open("exceeds").await?;
    let admin = door.admin().await?;
    let mut tokens = Vec::new();
    for role in [Role::Operator, Role::Supplier, Role::Viewer] {
        door.user(&admin, role.name(), role).await?;
        tokens.push(door.log_in(role.name(), PASSWORD).await?.text("access_token"));
    }
    let [operator, supplier, viewer] = &tokens[..] else { anyhow::bail!("three tokens") };
    for (token, role, proveedor_id, status) in [
        (&admin, "admin", None, 201),
        (&admin, "supplier", Some("PROV009"), 201),
        (&admin, "supplier", None, 422),
        (operator, "operator", None, 201),
        (operator, "supplier", Some("PROV009"), 201),
        (operator, "viewer", None, 201),
        (operator, "operator", Some("PROV009"), 422),
        (operator, "admin", None, 403),
        (supplier, "supplier", None, 201),
        (supplier, "supplier", Some("PROV001"), 201),
        (supplier, "viewer", None, 201),
        (supplier, "supplier", Some("PROV002"), 403),
        (supplier, "viewer", Some("PROV002"), 403),
        (viewer, "viewer", None, 201),
        (viewer, "viewer", Some("PROV001"), 201),
        (viewer, "supplier", Some("PROV001"), 403),
        (viewer, "operator", None, 403),
    ] {
        let body = json!({ "name": "key", "role": role, "proveedor_id": proveedor_id });
        let created = create(&door, token, &body).await?;
        assert_eq!(created.status, status, "{role} {proveedor_id:?}: {}", created.body);
    }
    // Bound to its maker's supplier even where it did not ask to be.
    let body = json!({ "name": "key", "role": "viewer" });
    assert_eq!(create(&door, supplier, &body).await?.expect(201)?.body["proveedor_id"], "PROV001");
    for scopes in [json!(["*"]), json!(["catalog"]), json!(["Catalog:read"])] {
        create(&door, &admin, &json!({ "name": "key", "scopes": scopes })).await?.expect(422)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_key_stops_when_its_maker_may_no_longer_hand_it_out() -> anyhow::Result<()> {
    let door = Door::open("maker").await?;
    let admin = door.admin().await?;
    let user = door.user(&admin, "luis", Role::Operator).await?;
    let token = door.log_in("luis", PASSWORD).await?.text("access_token");
    let key = create(&door, &token, &json!({ "name": "key" })).await?.expect(201)?.text("key");
    let lesser =
        create(&door, &token, &json!({ "name": "key", "role": "viewer" })).await?.expect(201)?.text("key");
    for (change, full, less) in [
        (json!({ "role": "viewer" }), 401, 200),
        (json!({ "role": "operator" }), 200, 200),
        (json!({ "disabled": true }), 401, 401),
        (json!({ "disabled": false }), 200, 200),
    ] {
        door.change(&admin, &user, &change).await?.expect(200)?;
        me(&door, &key).await?.expect(full)?;
        me(&door, &lesser).await?.expect(less)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_key_makes_no_keys_and_no_users() -> anyhow::Result<()> {
    let door = Door::open("nokeys").await?;
    let admin = door.admin().await?;
    let key = create(&door, &admin, &json!({ "name": "full" })).await?.expect(201)?.text("key");
    let request = TestRequest::get().insert_header(("x-api-key", key.as_str())).to_http_request();
    let caller = door.identity.caller_of(&request).await?.ok_or_else(|| anyhow::anyhow!("a caller"))?;
    let user = json!({ "username": "more", "password": PASSWORD, "role": "admin" });
    for (method, path, body) in [
        ("GET", "/api/v1/users", None),
        ("POST", "/api/v1/users", Some(&user)),
        ("GET", "/api/v1/api-keys", None),
        ("POST", "/api/v1/api-keys", Some(&json!({ "name": "more" }))),
        (
            "POST",
            "/auth/password",
            Some(&json!({ "current_password": PASSWORD, "new_password": "another-good-one" })),
        ),
    ] {
        let request = || {
            let request = door.request(method, path);
            body.map_or_else(|| door.request(method, path), |body| request.json(body))
        };
        send(request().header("x-api-key", &key)).await?.expect(403)?;
        // Nor does the token that a service behind the gateway could keep.
        send(request().bearer_auth(&caller.token)).await?.expect(401)?;
    }
    Ok(())
}

#[tokio::test]
async fn uses_are_noted_once_a_minute() -> anyhow::Result<()> {
    let door = Door::open("used").await?;
    let admin = door.admin().await?;
    let key = create(&door, &admin, &json!({ "name": "busy" })).await?.expect(201)?;
    assert_eq!(key.body["last_used_at"], Value::Null);
    let noted = async || {
        sqlx::query_scalar::<_, Option<DateTime<Utc>>>("SELECT last_used_at FROM api_keys")
            .fetch_one(&door.database.pool)
            .await
    };
    let first = door.clock.now();
    for (wait, expected) in [(0, 0), (59, 0), (1, 60), (30, 60), (40, 130)] {
        door.advance(TimeDelta::seconds(wait));
        me(&door, &key.text("key")).await?.expect(200)?;
        assert_eq!(noted().await?, Some(first + TimeDelta::seconds(expected)), "after {wait} s more");
    }
    Ok(())
}

#[tokio::test]
async fn others_keys_are_the_administrators_business_only() -> anyhow::Result<()> {
    let door = Door::open("others").await?;
    let admin = door.admin().await?;
    let (luis, rosa) =
        (door.user(&admin, "luis", Role::Viewer).await?, door.user(&admin, "rosa", Role::Viewer).await?);
    let luis_token = door.log_in("luis", PASSWORD).await?.text("access_token");
    let rosa_token = door.log_in("rosa", PASSWORD).await?.text("access_token");
    let key = create(&door, &luis_token, &json!({ "name": "of luis" })).await?.expect(201)?;
    let path = format!("/api/v1/api-keys/{}", key.text("id"));

    let count = async |token: &str, query: &str| {
        let page =
            send(door.get(&format!("/api/v1/api-keys{query}")).bearer_auth(token)).await?.expect(200)?;
        anyhow::Ok(page.body["items"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(
        (count(&luis_token, "").await?, count(&rosa_token, "").await?, count(&admin, "").await?),
        (1, 0, 1)
    );
    let of_rosa = format!("?user_id={}", rosa["id"].as_str().unwrap_or_default());
    let of_luis = format!("?user_id={}", luis["id"].as_str().unwrap_or_default());
    assert_eq!((count(&admin, &of_rosa).await?, count(&admin, &of_luis).await?), (0, 1));
    send(door.get(&format!("/api/v1/api-keys{of_luis}")).bearer_auth(&rosa_token)).await?.expect(403)?;
    send(door.request("DELETE", &path).bearer_auth(&rosa_token)).await?.expect(404)?;
    me(&door, &key.text("key")).await?.expect(200)?;
    send(door.request("DELETE", &path).bearer_auth(&admin)).await?.expect(204)?;
    me(&door, &key.text("key")).await?.expect(401)?;
    Ok(())
}
