use std::collections::HashSet;

use chassis::auth::Role;
use chrono::TimeDelta;
use futures::future::join_all;
use sea_orm::sqlx;
use serde_json::{Value, json};

use crate::door::{ADMIN, Answer, Door, PASSWORD, send};

fn token(answer: &Answer) -> String {
    answer.text("refresh_token")
}

#[tokio::test]
async fn each_token_works_once_and_a_reuse_ends_the_login() -> anyhow::Result<()> {
    let door = Door::open("rotation").await?;
    let first = door.log_in(ADMIN, PASSWORD).await?;
    let second = door.refresh(&token(&first)).await?.expect(200)?;
    assert_ne!(token(&first), token(&second));
    assert_eq!(second.body["user"]["username"], ADMIN);
    send(door.get("/api/v1/auth/me").bearer_auth(second.text("access_token"))).await?.expect(200)?;
    door.advance(TimeDelta::minutes(15));
    let third = door.refresh(&token(&second)).await?.expect(200)?;

    // Somebody comes back with a token that was exchanged long ago: one of the two is a thief.
    let other = door.log_in(ADMIN, PASSWORD).await?;
    door.advance(TimeDelta::seconds(31));
    assert_eq!(door.refresh(&token(&second)).await?.expect(401)?.body["code"], "invalid_refresh_token");
    door.refresh(&token(&third)).await?.expect(401)?;
    door.refresh(&token(&other)).await?.expect(200)?;
    assert_eq!(door.audited("refresh_token.reused").await?, 1);
    door.refresh("rt_unheard-of").await?.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn tabs_that_refresh_at_once_all_stay_logged_in() -> anyhow::Result<()> {
    let door = Door::open("tabs").await?;
    let first = token(&door.log_in(ADMIN, PASSWORD).await?);
    let replica = door.replica(|_| {}).await?;
    let tabs =
        join_all((0..8).map(|tab| if tab % 2 == 0 { &door } else { &replica }).map(|at| at.refresh(&first)));
    let mut siblings = Vec::new();
    for answer in tabs.await {
        siblings.push(token(&answer?.expect(200)?));
    }
    // No token is shown twice, and all are of one generation: the chain is not longer for it.
    assert_eq!(siblings.iter().collect::<HashSet<_>>().len(), 8);
    let generation: i32 =
        sqlx::query_scalar("SELECT generation FROM token_families").fetch_one(&door.database.pool).await?;
    assert_eq!(generation, 2);

    // They go on together.
    door.advance(TimeDelta::minutes(15));
    let next = token(&door.refresh(&siblings[0]).await?.expect(200)?);
    door.advance(TimeDelta::seconds(30));
    door.refresh(&siblings[1]).await?.expect(200)?;
    // The grace was counted from the first exchange; a sibling did not renew it.
    door.advance(TimeDelta::seconds(1));
    door.refresh(&siblings[2]).await?.expect(401)?;
    door.refresh(&next).await?.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn the_grace_is_for_the_token_just_before_only() -> anyhow::Result<()> {
    let door = Door::open("grace").await?;
    let first = door.log_in(ADMIN, PASSWORD).await?;
    let second = door.refresh(&token(&first)).await?.expect(200)?;
    let third = door.refresh(&token(&second)).await?.expect(200)?;
    door.refresh(&token(&first)).await?.expect(401)?;
    door.refresh(&token(&third)).await?.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn logins_end_by_themselves() -> anyhow::Result<()> {
    let door = Door::open("lifetime").await?;
    let idle = door.log_in(ADMIN, PASSWORD).await?;
    let mut used = door.log_in(ADMIN, PASSWORD).await?;
    for _ in 0..3 {
        door.advance(TimeDelta::days(9));
        used = door.refresh(&token(&used)).await?.expect(200)?;
    }
    door.refresh(&token(&idle)).await?.expect(401)?;
    // Day 27. However often it is refreshed, day 30 is the end.
    door.advance(TimeDelta::days(3) - TimeDelta::minutes(5));
    used = door.refresh(&token(&used)).await?.expect(200)?;
    assert_eq!(used.body["expires_in"], 300, "nor does the access token outlive it");
    door.advance(TimeDelta::minutes(5));
    door.refresh(&token(&used)).await?.expect(401)?;
    door.advance(TimeDelta::seconds(1));
    door.identity.maintain_once().await?;
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM refresh_tokens").fetch_one(&door.database.pool).await?;
    assert_eq!(left, 0, "pruned");
    Ok(())
}

#[tokio::test]
async fn logging_out_ends_one_login() -> anyhow::Result<()> {
    let door = Door::open("logout").await?;
    let (mine, other) = (door.log_in(ADMIN, PASSWORD).await?, door.log_in(ADMIN, PASSWORD).await?);
    let renewed = door.refresh(&token(&mine)).await?.expect(200)?;
    // With any token of the login, and as often as one likes.
    for _ in 0..2 {
        send(door.post("/auth/logout", &json!({ "refresh_token": token(&mine) }))).await?.expect(204)?;
    }
    send(door.post("/auth/logout", &json!({ "refresh_token": "rt_unheard-of" }))).await?.expect(204)?;
    door.refresh(&token(&renewed)).await?.expect(401)?;
    door.refresh(&token(&other)).await?.expect(200)?;
    assert_eq!(door.audited("logout").await?, 1);
    send(door.request("POST", "/auth/logout")).await?.expect(401)?;
    let bearer = door.request("POST", "/auth/logout").bearer_auth(other.text("access_token"));
    send(bearer).await?.expect(422)?;
    Ok(())
}

#[tokio::test]
async fn what_an_administrator_changes_ends_the_users_logins() -> anyhow::Result<()> {
    let door = Door::open("changes").await?;
    let admin = door.admin().await?;
    let user = door.user(&admin, "luis", Role::Viewer).await?;
    let mut password = PASSWORD;
    for (change, ends) in [
        (json!({ "name": "Luis" }), false),
        (json!({ "role": "operator" }), true),
        (json!({ "role": "supplier", "proveedor_id": "PROV001" }), true),
        (json!({ "proveedor_id": "PROV002" }), true),
        (json!({ "password": "another-good-one" }), true),
        (json!({ "disabled": true }), true),
    ] {
        let login = door.log_in("luis", password).await?.expect(200)?;
        door.change(&admin, &user, &change).await?.expect(200)?;
        door.refresh(&token(&login)).await?.expect(if ends { 401 } else { 200 })?;
        if change.get("password").is_some_and(Value::is_string) {
            password = "another-good-one";
        }
    }
    // A token of before says what is no longer so.
    door.log_in("luis", password).await?.expect(401)?;
    Ok(())
}
