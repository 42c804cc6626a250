use chassis::config::Secret;
use gateway::identity::FirstAdmin;
use sea_orm::sqlx;
use serde_json::json;

use crate::door::{ADMIN, Door, PASSWORD, now};

#[tokio::test]
async fn the_configuration_does_not_undo_what_people_changed() -> anyhow::Result<()> {
    let door = Door::open("first").await?;
    let admin = door.admin().await?;
    let me = crate::door::send(door.get("/auth/me").bearer_auth(&admin)).await?.body;
    door.change(&admin, &me["user"], &json!({ "password": "chosen-by-a-person", "name": "Rosa" }))
        .await?
        .expect(200)?;

    let again = door.replica(|_| {}).await?;
    again.log_in(ADMIN, PASSWORD).await?.expect(401)?;
    assert_eq!(again.log_in(ADMIN, "chosen-by-a-person").await?.expect(200)?.body["user"]["name"], "Rosa");
    let users: i64 = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&door.database.pool).await?;
    assert_eq!(users, 1);
    Ok(())
}

#[tokio::test]
async fn an_administrator_whom_a_person_deleted_does_not_come_back() -> anyhow::Result<()> {
    let door = Door::open("deleted").await?;
    let first = door.admin().await?;
    let me = crate::door::send(door.get("/auth/me").bearer_auth(&first)).await?.body;
    let other =
        json!({ "username": "rosa", "name": "Rosa", "password": "chosen-by-a-person", "role": "admin" });
    crate::door::send(door.post("/api/v1/users", &other).bearer_auth(&first)).await?.expect(201)?;
    let rosa = door.log_in("rosa", "chosen-by-a-person").await?.expect(200)?.text("access_token");
    let path = format!("/api/v1/users/{}", me["user"]["id"].as_str().unwrap_or_default());
    crate::door::send(door.request("DELETE", &path).bearer_auth(&rosa)).await?.expect(204)?;

    let again = door.replica(|_| {}).await?;
    again.log_in(ADMIN, PASSWORD).await?.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn an_address_will_do_as_a_name() -> anyhow::Result<()> {
    let first =
        FirstAdmin { username: "Boss@Lote.co".to_owned(), password: Secret::new(PASSWORD.to_owned()) };
    let door = Door::with("address", now(), |settings| settings.first_admin = Some(first)).await?;
    for login in ["boss", "boss@lote.co"] {
        assert_eq!(door.log_in(login, PASSWORD).await?.expect(200)?.body["user"]["role"], "admin");
    }
    let refused = door
        .replica(|settings| {
            settings.first_admin =
                Some(FirstAdmin { username: "no good name".into(), password: Secret::new(PASSWORD.into()) });
        })
        .await;
    assert!(refused.is_err_and(|error| error.to_string().contains("ADMIN_USER")));
    Ok(())
}
