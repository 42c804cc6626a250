//! Who may call what: every endpoint for every kind of caller.

use chassis::auth::Role;
use serde_json::{Value, json};

use crate::door::{Door, PASSWORD, send};

/// What is expected of (nobody, viewer, supplier, operator, admin, an administrator's API key).
type Row = (&'static str, String, Option<Value>, [u16; 6]);

const ADMINS: [u16; 6] = [401, 403, 403, 403, 200, 403];
const PEOPLE: [u16; 6] = [401, 200, 200, 200, 200, 403];
const EVERYONE: [u16; 6] = [401, 200, 200, 200, 200, 200];
const OPEN: [u16; 6] = [200; 6];

fn with(expected: [u16; 6], success: u16) -> [u16; 6] {
    expected.map(|status| if status == 200 { success } else { status })
}

#[tokio::test]
async fn role_by_endpoint() -> anyhow::Result<()> {
    let door = Door::open("matrix").await?;
    let admin = door.admin().await?;
    let target = door.user(&admin, "target", Role::Viewer).await?;
    let user = format!("/api/v1/users/{}", target["id"].as_str().unwrap_or_default());
    let absent = "/api/v1/api-keys/00000000-0000-7000-8000-000000000000".to_owned();
    let absent_user = "/api/v1/users/00000000-0000-7000-8000-000000000000".to_owned();
    let wrong = json!({ "current_password": "wrong-password", "new_password": "another-good-one" });
    let nothing = json!({});
    // A refused body shows that its handler was reached: 422 and 404 stand for "allowed".
    let rows: Vec<Row> = vec![
        ("GET", "/.well-known/jwks.json".into(), None, OPEN),
        ("POST", "/api/v1/auth/login".into(), Some(json!({ "password": "x" })), with(OPEN, 422)),
        ("POST", "/api/v1/auth/refresh".into(), Some(json!({ "refresh_token": "x" })), with(OPEN, 401)),
        ("POST", "/api/v1/auth/logout".into(), Some(json!({ "refresh_token": "x" })), with(OPEN, 204)),
        ("POST", "/api/v1/auth/logout".into(), None, with(EVERYONE, 422)),
        ("GET", "/api/v1/auth/me".into(), None, EVERYONE),
        ("GET", "/api/v1/me".into(), None, EVERYONE),
        // A wrong password is a 401 too: told apart by its code, below.
        ("POST", "/api/v1/auth/password".into(), Some(wrong), with(PEOPLE, 401)),
        ("GET", "/api/v1/users".into(), None, ADMINS),
        (
            "POST",
            "/api/v1/users".into(),
            Some(json!({ "username": "x", "password": "x", "role": "viewer" })),
            with(ADMINS, 422),
        ),
        ("GET", user.clone(), None, ADMINS),
        ("PATCH", user.clone(), Some(nothing), ADMINS),
        ("POST", format!("{user}/disable"), None, ADMINS),
        ("POST", format!("{user}/enable"), None, ADMINS),
        ("DELETE", absent_user, None, with(ADMINS, 404)),
        ("GET", "/api/v1/api-keys".into(), None, PEOPLE),
        ("POST", "/api/v1/api-keys".into(), Some(json!({ "name": "" })), with(PEOPLE, 422)),
        ("DELETE", absent, None, with(PEOPLE, 404)),
    ];

    let mut tokens = vec![None];
    for role in [Role::Viewer, Role::Supplier, Role::Operator] {
        door.user(&admin, role.name(), role).await?;
        tokens.push(Some(door.log_in(role.name(), PASSWORD).await?.text("access_token")));
    }
    tokens.push(Some(admin.clone()));
    let created = door.post("/api/v1/api-keys", &json!({ "name": "key" })).bearer_auth(&admin);
    let key = send(created).await?.expect(201)?.text("key");

    let mut wrong = Vec::new();
    for (method, path, body, expected) in rows {
        for (caller, status) in expected.into_iter().enumerate() {
            let mut request = door.request(method, &path);
            if let Some(body) = &body {
                request = request.json(body);
            }
            request = match tokens.get(caller) {
                Some(Some(token)) => request.bearer_auth(token),
                Some(None) => request,
                None => request.header("x-api-key", &key),
            };
            let answer = send(request).await?;
            let code = answer.text("code");
            let guessed = path.ends_with("/password") && (1..5).contains(&caller);
            if answer.status != status || (guessed && code != "invalid_credentials") {
                wrong.push(format!(
                    "{method} {path} by caller {caller}: {} {code}, not {status}",
                    answer.status
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
