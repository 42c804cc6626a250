//! What a page of another site can make a browser do that is logged in: read, and start nothing.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use reqwest::Method;
use serde_json::json;
use stack::platform::{Answer, Client, Upload, answer, task_id};
use stack::services::{REPORT, SMS_DISPATCH};
use stack::workbook::Spec;
use std::time::Duration;

/// A session's cookies, and its CSRF token.
async fn session(browser: &Client, username: &str, password: &str) -> Result<(String, String)> {
    let credentials = json!({ "username": username, "password": password });
    let login = browser.request(Method::POST, "/api/v1/auth/login?session=cookie").json(&credentials);
    let login = login.send().await?.error_for_status()?;
    let cookies: Vec<_> = login
        .headers()
        .get_all("set-cookie")
        .iter()
        .filter_map(|cookie| cookie.to_str().ok()?.split(';').next().map(str::to_owned))
        .collect();
    let csrf = login.json::<serde_json::Value>().await?["csrf_token"].as_str().context("a token")?.to_owned();
    Ok((cookies.join("; "), csrf))
}

#[tokio::test]
async fn another_site_uses_up_none_of_a_viewers_searches() -> Result<()> {
    let scene = Scene::start("crosssearch", |options| {
        options.workers(0).with(&SMS_DISPATCH, 1).env("CONTACTS_PHONE_SEARCHES_PER_HOUR", 2)
    })
    .await?;
    let (name, password) = ("mirona", stack::random_hex(12));
    let viewer = json!({ "username": name, "name": name, "password": password, "role": "viewer" });
    let created = scene.platform.admin().await?.post("/api/v1/users", &viewer).await?;
    ensure!(created.status == 201, "{created}");
    let browser = Client::nobody(&scene.platform.gateway_url());
    let (cookies, csrf) = session(&browser, name, &password).await?;
    let by_query = "/api/v1/contacts?telefono=6121004768";
    let by_path = "/api/v1/suppressions/6121004768";
    for _ in 0..2 {
        for path in [by_query, by_path] {
            let refused = answer(browser.request(Method::GET, path).header("cookie", &cookies)).await?;
            ensure!(refused.status == 403 && refused.body["code"] == "csrf", "{path}: {refused}");
        }
    }
    let names = browser.request(Method::GET, "/api/v1/contacts?nombre=ana").header("cookie", &cookies);
    let names = answer(names).await?;
    ensure!(names.status == 200, "a search by name is no search by phone: {names}");
    for (path, status) in [(by_query, 200), (by_path, 404), (by_query, 429)] {
        let own = browser.request(Method::GET, path).header("cookie", &cookies);
        let own = answer(own.header("x-csrf-token", &csrf)).await?;
        ensure!(own.status == status, "{path}: {own}");
    }
    Ok(())
}

#[tokio::test]
async fn a_get_by_cookie_starts_nothing_without_the_csrf_token() -> Result<()> {
    let scene = Scene::start("crosssite", |options| options.with(&REPORT, 1)).await?;
    let base = scene.platform.gateway_url();
    let admin = scene.platform.admin().await?;
    let (workbook, _) = scene.workbook(&Spec::new(1, "SITE", 3))?;
    let task = task_id(&admin.upload(&Upload::new(&workbook, "PROV001")).await?)?;
    admin.finished(&task, Duration::from_secs(60)).await?;

    let browser = Client::nobody(&base);
    let (cookies, csrf) = session(&browser, "admin", scene.platform.admin_password()).await?;
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
    // Nor does it need one where the request itself shows that no other site sent it.
    for (name, value, status) in [
        ("sec-fetch-site", "same-origin", 404),
        ("sec-fetch-site", "cross-site", 403),
        ("content-type", "application/json", 404),
        ("content-type", "text/plain", 403),
    ] {
        let report = browser.request(Method::GET, "/reporte?fecha=2026/01/31").header("cookie", &cookies);
        let answer = answer(report.header(name, value)).await?;
        ensure!(answer.status == status, "{name}: {value}: {answer}");
    }
    // What is there is read, as everything is.
    stack::wait::until("the annotated workbook", Duration::from_secs(60), async || {
        get(&annotated, None).await.is_ok_and(|answer| answer.status == 200)
    })
    .await?;
    ensure!(get("/api/v1/catalog/bulk-upload", None).await?.status == 200);
    Ok(())
}
