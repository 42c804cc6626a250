use chassis::auth::Role;
use sea_orm::sqlx;
use serde_json::{Value, json};

use crate::door::{ADMIN, Answer, Door, PASSWORD, send};

async fn create(door: &Door, admin: &str, body: &Value) -> anyhow::Result<Answer> {
    send(door.post("/api/v1/users", body).bearer_auth(admin)).await
}

async fn delete(door: &Door, admin: &str, user: &Value) -> anyhow::Result<Answer> {
    let path = format!("/api/v1/users/{}", user["id"].as_str().unwrap_or_default());
    send(door.request("DELETE", &path).bearer_auth(admin)).await
}

#[tokio::test]
async fn created_read_changed_and_deleted() -> anyhow::Result<()> {
    let door = Door::open("crud").await?;
    let admin = door.admin().await?;
    let user = json!({ "username": "Luis", "email": "Luis@lote.co", "password": PASSWORD, "role": "viewer" });
    let created = create(&door, &admin, &user).await?.expect(201)?;
    let path = created.headers["location"].to_str()?.to_owned();
    assert_eq!(created.body["username"], "luis");
    assert_eq!(created.body["name"], "luis");
    assert_eq!(send(door.get(&path).bearer_auth(&admin)).await?.expect(200)?.body, created.body);

    let request = json!({ "name": "Luis Mora", "email": null });
    let changed = door.change(&admin, &created.body, &request).await?.expect(200)?.body;
    assert_eq!((&changed["name"], &changed["email"]), (&json!("Luis Mora"), &Value::Null));
    let bound = json!({ "role": "supplier", "proveedor_id": "PROV001" });
    assert_eq!(door.change(&admin, &changed, &bound).await?.expect(200)?.body["proveedor_id"], "PROV001");
    let freed = door.change(&admin, &changed, &json!({ "role": "operator" })).await?.expect(200)?;
    assert_eq!(freed.body["proveedor_id"], Value::Null);

    send(door.request("POST", &format!("{path}/disable")).bearer_auth(&admin)).await?.expect(200)?;
    door.log_in("luis", PASSWORD).await?.expect(401)?;
    send(door.request("POST", &format!("{path}/enable")).bearer_auth(&admin)).await?.expect(200)?;
    door.log_in("luis", PASSWORD).await?.expect(200)?;

    delete(&door, &admin, &changed).await?.expect(204)?;
    send(door.get(&path).bearer_auth(&admin)).await?.expect(404)?;
    delete(&door, &admin, &changed).await?.expect(404)?;
    door.change(&admin, &changed, &json!({})).await?.expect(404)?;
    send(door.get("/api/v1/users/no-id").bearer_auth(&admin)).await?.expect(404)?;
    for (action, times) in [
        ("user.created", 2),
        ("user.updated", 3),
        ("user.disabled", 1),
        ("user.enabled", 1),
        ("user.deleted", 1),
    ] {
        assert_eq!(door.audited(action).await?, times, "{action}");
    }
    let details: Vec<String> =
        sqlx::query_scalar("SELECT details::text FROM audit").fetch_all(&door.database.pool).await?;
    assert!(details.iter().all(|text| !text.contains("argon2") && !text.contains(PASSWORD)));
    Ok(())
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_field() -> anyhow::Result<()> {
    let door = Door::open("fields").await?;
    let admin = door.admin().await?;
    let base = json!({ "username": "luis", "email": "luis@lote.co", "password": PASSWORD, "role": "viewer" });
    create(&door, &admin, &base).await?.expect(201)?;
    for (field, value, status) in [
        ("username", json!("x"), 422),
        ("username", json!("con espacio"), 422),
        ("username", json!("a@b.co"), 422),
        ("email", json!("no-address"), 422),
        ("password", json!("short"), 422),
        ("password", json!("password123"), 422),
        ("name", json!(""), 422),
        ("role", json!("root"), 400),
        ("username", json!("LUIS"), 409),
        ("email", json!("LUIS@lote.co"), 409),
    ] {
        let mut body = base.clone();
        body["username"] = json!("other");
        body["email"] = json!("other@lote.co");
        body[field] = value.clone();
        let answer = create(&door, &admin, &body).await?.expect(status)?;
        if status == 422 {
            assert_eq!(answer.body["details"][0]["field"], field, "{value}");
        }
    }
    let mail = json!({ "email": "luis@lote.co" });
    let other = door.user(&admin, "other", Role::Viewer).await?;
    door.change(&admin, &other, &mail).await?.expect(409)?;
    Ok(())
}

#[tokio::test]
async fn a_supplier_is_bound_to_one_proveedor() -> anyhow::Result<()> {
    let door = Door::open("bound").await?;
    let admin = door.admin().await?;
    for (role, proveedor_id, status) in [
        ("supplier", Value::Null, 422),
        ("supplier", json!(""), 422),
        ("supplier", json!(" PROV001"), 422),
        ("supplier", json!("PROV\u{0}"), 400),
        ("operator", json!("PROV001"), 422),
        ("admin", json!("PROV001"), 422),
        ("supplier", json!("PROV001"), 201),
        ("viewer", json!("PROV001"), 201),
        ("viewer", Value::Null, 201),
    ] {
        let username = format!("user-{role}-{status}-{}", proveedor_id.as_str().is_some());
        let body =
            json!({ "username": username, "password": PASSWORD, "role": role, "proveedor_id": proveedor_id });
        let answer = create(&door, &admin, &body).await?.expect(status)?;
        if status == 422 {
            assert_eq!(answer.body["details"][0]["field"], "proveedor_id");
        }
    }
    let viewer = door.user(&admin, "luis", Role::Viewer).await?;
    door.change(&admin, &viewer, &json!({ "role": "supplier" })).await?.expect(422)?;
    let supplier = door.user(&admin, "rosa", Role::Supplier).await?;
    door.change(&admin, &supplier, &json!({ "proveedor_id": null })).await?.expect(422)?;
    Ok(())
}

#[tokio::test]
async fn pages_and_searches() -> anyhow::Result<()> {
    let door = Door::open("pages").await?;
    let admin = door.admin().await?;
    for n in 0..7 {
        door.user(&admin, &format!("user-{n}"), if n < 2 { Role::Operator } else { Role::Viewer }).await?;
    }
    let names = async |query: &str| {
        let page =
            send(door.get(&format!("/api/v1/users?{query}")).bearer_auth(&admin)).await?.expect(200)?.body;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> =
            items.iter().map(|user| user["username"].as_str().unwrap_or_default().to_owned()).collect();
        anyhow::Ok((names, page["next"].as_str().map(str::to_owned)))
    };
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let (page, next) = names(&format!("limit=3{after}")).await?;
        assert!(page.len() <= 3);
        all.extend(page);
        let Some(next) = next else { break };
        after = format!("&after={next}");
    }
    assert_eq!(all.len(), 8);
    assert!(all.is_sorted());
    assert_eq!(names("q=SER-3").await?.0, ["user-3"]);
    assert_eq!(names("q=%25").await?.0, [""; 0], "a percent sign is itself");
    assert_eq!(names("q=user_3").await?.0, [""; 0], "and so is an underscore");
    assert_eq!(names("role=operator").await?.0, ["user-0", "user-1"]);
    assert_eq!(names("disabled=true").await?.0, [""; 0]);
    send(door.get("/api/v1/users?q=%00").bearer_auth(&admin)).await?.expect(400)?;
    send(door.get("/api/v1/users?role=root").bearer_auth(&admin)).await?.expect(400)?;
    Ok(())
}

#[tokio::test]
async fn the_last_administrator_stays() -> anyhow::Result<()> {
    let door = Door::open("last").await?;
    let admin = door.admin().await?;
    let me = send(door.get("/auth/me").bearer_auth(&admin)).await?.body["user"].clone();
    let second = door.user(&admin, "second", Role::Admin).await?;
    door.change(&admin, &second, &json!({ "disabled": true })).await?.expect(200)?;
    // A disabled administrator is none.
    for change in [json!({ "disabled": true }), json!({ "role": "viewer" })] {
        assert_eq!(door.change(&admin, &me, &change).await?.expect(409)?.body["code"], "last_admin");
    }
    assert_eq!(delete(&door, &admin, &me).await?.expect(409)?.body["code"], "last_admin");
    door.change(&admin, &me, &json!({ "name": "Still here" })).await?.expect(200)?;
    delete(&door, &admin, &second).await?.expect(204)?;
    door.log_in(ADMIN, PASSWORD).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn two_administrators_who_remove_each_other_do_not_both_succeed() -> anyhow::Result<()> {
    let door = Door::open("mutual").await?;
    let replica = door.replica(|_| {}).await?;
    for round in 0..5 {
        let admin = door.admin().await?;
        let me = send(door.get("/auth/me").bearer_auth(&admin)).await?.body["user"].clone();
        let name = format!("rival-{round}");
        let rival = door.user(&admin, &name, Role::Admin).await?;
        let rivals = door.log_in(&name, PASSWORD).await?.text("access_token");
        let request = json!({ "role": "viewer" });
        let (one, other) =
            tokio::join!(door.change(&admin, &rival, &request), replica.change(&rivals, &me, &request),);
        let (one, other) = (one?.status, other?.status);
        // The loser finds itself the last, or no administrator any more.
        assert!(matches!((one, other), (200, 401 | 409) | (401 | 409, 200)), "{one} {other}");
        let admins: i64 =
            sqlx::query_scalar("SELECT count(*) FROM users WHERE role = 'admin' AND disabled_at IS NULL")
                .fetch_one(&door.database.pool)
                .await?;
        assert_eq!(admins, 1);
        sqlx::query("UPDATE users SET role = CASE WHEN username = $1 THEN 'admin' ELSE 'viewer' END")
            .bind(ADMIN)
            .execute(&door.database.pool)
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_token_of_a_role_one_no_longer_has_administers_nothing() -> anyhow::Result<()> {
    let door = Door::open("stale").await?;
    let admin = door.admin().await?;
    let second = door.user(&admin, "second", Role::Admin).await?;
    let token = door.log_in("second", PASSWORD).await?.text("access_token");
    send(door.get("/api/v1/users").bearer_auth(&token)).await?.expect(200)?;
    for change in [json!({ "role": "operator" }), json!({ "role": "admin", "disabled": true })] {
        door.change(&admin, &second, &change).await?.expect(200)?;
        send(door.get("/api/v1/users").bearer_auth(&token)).await?.expect(401)?;
    }
    Ok(())
}
