//! Swagger UI in Chromium: "Authorize" logs in, and "Try it out" sends what the operation says, whichever service's it is.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use stack::platform::ADMIN;

use crate::{platform, root, tools};

#[tokio::test(flavor = "multi_thread")]
async fn trying_an_operation_out_sends_that_operation() -> Result<()> {
    let scene = platform("api_swagger").await?;
    let admin = scene.platform.admin().await?;
    let token = admin.token().context("a token")?.to_owned();
    let nobody = "00000000-0000-7000-8000-000000000000";
    let report = json!({ "fecha": "2026/01/31", "tipo": "resumen" });
    // An operation of each service, and the one that once deleted a product in a user's stead.
    let tried = [
        (
            "gateway_users_delete",
            json!({ "id": nobody }),
            Value::Null,
            "DELETE",
            format!("/api/v1/users/{nobody}"),
        ),
        (
            "catalog_upload_products_get",
            json!({ "id": "P 1" }),
            Value::Null,
            "GET",
            "/api/v1/catalog/items/P%201".into(),
        ),
        ("report_reports_create", json!({}), report, "POST", "/api/v1/reports".into()),
        (
            "sms_dispatch_contacts_list",
            json!({ "lada": "612" }),
            Value::Null,
            "GET",
            "/api/v1/contacts?lada=612".into(),
        ),
        ("etl_runs_list", json!({ "limit": "7" }), Value::Null, "GET", "/api/v1/etl/runs?limit=7".into()),
    ];
    let asked: Vec<Value> = tried
        .iter()
        .map(|(operation, parameters, body, ..)| match body {
            Value::Null => json!({ "operation": operation, "parameters": parameters }),
            body => json!({ "operation": operation, "parameters": parameters, "body": body }),
        })
        .collect();
    let (url, said) = (scene.platform.gateway_url(), token.clone());
    let password = scene.platform.admin_password().to_owned();
    let sent = tokio::task::spawn_blocking(move || sent(&url, &said, &password, &json!(asked))).await??;
    for ((operation, _, body, method, path), sent) in tried.iter().zip(&sent) {
        let url = format!("{}{path}", scene.platform.gateway_url());
        ensure!(sent["method"] == *method && sent["url"] == url, "{operation}: {sent}");
        ensure!(sent["authorization"] == format!("Bearer {token}"), "{operation}: {sent}");
        ensure!(sent["body"] == *body, "{operation}: {sent}");
    }
    ensure!(sent.len() == tried.len(), "{sent:?}");
    Ok(())
}

/// What Chromium sends for each of the operations, with the token; by the administrator's password it logs in before.
fn sent(gateway: &str, token: &str, password: &str, tried: &Value) -> Result<Vec<Value>> {
    let tools = tools()?;
    // Node finds packages beside the script.
    let script = tools.join("try_it_out.mjs");
    std::fs::copy(root()?.join("tests/e2e/api/try_it_out.mjs"), &script)?;
    let mut node = Command::new("node")
        .arg(&script)
        .args([gateway, token, ADMIN, password])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("node; `deploy/native/install.sh tests` brings it")?;
    node.stdin.take().context("a pipe")?.write_all(tried.to_string().as_bytes())?;
    let output = node.wait_with_output()?;
    ensure!(output.status.success(), "{}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}
