//! What a page of another site can make a browser do that is logged in: read, and start nothing.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use reqwest::Method;
use serde_json::json;
use stack::platform::{Answer, Client, Upload, answer, task_id};
use stack::services::REPORT;
use stack::workbook::Spec;
use std::time::Duration;

#[tokio::test]
async fn a_get_by_cookie_starts_nothing_without_the_csrf_token() -> Result<()> {
    let scene = Scene::start("crosssite", |options| options.with(&REPORT, 1)).await?;
    let base = scene.platform.gateway_url();
    let admin = scene.platform.admin().await?;
    let (workbook, _) = scene.workbook(&Spec::new(1, "SITE", 3))?;
    let task = task_id(&admin.upload(&Upload::new(&workbook, "PROV001")).await?)?;
    admin.finished(&task, Duration::from_secs(60)).await?;

    let browser = Client::nobody(&base);
    let credentials = json!({ "username": "admin", "password": scene.platform.admin_password() });
    let login = browser.request(Method::POST, "/api/v1/auth/login?session=cookie").json(&credentials);
    let login = login.send().await?.error_for_status()?;
    let cookies: Vec<_> = login
        .headers()
        .get_all("set-cookie")
        .iter()
        .filter_map(|cookie| cookie.to_str().ok()?.split(';').next().map(str::to_owned))
        .collect();
    let cookies = cookies.join("; ");
    let csrf = login.json::<serde_json::Value>().await?["csrf_token"].as_str().context("a token")?.to_owned();
    let get = async |path: &str, csrf: Option<&str>| -> Result<Answer> {
        let mut request = browser.request(Method::GET, path).header("cookie", &cookies);
        if let Some(csrf) = csrf {
            request = request.header("x-csrf-token", csrf);
        }
        answer(request).await
    };

    let annotated = format!("/api/v1/catalog/bulk-upload/{task}/annotated.xlsx");
    for (path, started) in [(annotated.as_str(), 202), ("/reporte?fecha=2026/01/31", 404)] {
        let refused = get(path, None).await?;
        ensure!(refused.status == 403 && refused.body["code"] == "csrf", "{path}: {refused}");
        // A header of the client's own says nothing.
        let taken = get(path, Some(&csrf)).await?;
        ensure!(taken.status == started, "{path}: {taken}");
    }
    // What is there is read, as everything is.
    stack::wait::until("the annotated workbook", Duration::from_secs(60), async || {
        get(&annotated, None).await.is_ok_and(|answer| answer.status == 200)
    })
    .await?;
    ensure!(get("/api/v1/catalog/bulk-upload", None).await?.status == 200);
    Ok(())
}
