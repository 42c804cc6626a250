//! Who may do what: every operation that the merged OpenAPI document knows, by every kind of caller, through the
//! gateway and, where a service serves it, at the service's own port. An operation that the table here lacks
//! fails the test.

mod cross_site;
mod rules;
mod world;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::Scene;
use reqwest::Method;
use serde_json::{Value, json};
use stack::platform::{Client, Upload, task_id};
use stack::services::{CATALOG_UPLOAD, ETL, REPORT, SMS_DISPATCH};
use stack::workbook::Spec;

use rules::{RULES, Who::*};
use world::World;

/// Whose data is at stake.
const OWNER: &str = "PROV-OWNER";
/// Somebody else.
const STRANGER: &str = "PROV-STRANGER";
/// Stands in everything of the owner's; never in an answer to somebody who may not see it.
const SECRET: &str = "SECRETO";
/// Every operation of an OpenAPI document.
async fn operations(client: &Client) -> Result<Vec<(String, String)>> {
    let document = client.get("/api-docs/openapi.json").await?;
    let paths = document.body["paths"].as_object().with_context(|| format!("{document}"))?;
    let methods = ["get", "post", "put", "patch", "delete", "head", "options"];
    let mut operations = Vec::new();
    for (path, item) in paths {
        let known = methods.iter().filter(|method| item.get(**method).is_some());
        operations.extend(known.map(|method| ((*method).to_owned(), path.clone())));
    }
    Ok(operations)
}

#[tokio::test]
async fn each_caller_gets_what_the_table_says_and_nothing_else() -> Result<()> {
    let world = World::build().await?;
    let catalog = world.scene.platform.service(&CATALOG_UPLOAD).url();
    let report = world.scene.platform.service(&REPORT).url();
    let sms = world.scene.platform.service(&SMS_DISPATCH).url();
    let etl = world.scene.platform.service(&ETL).url();
    let services = [
        ("/api/v1/catalog", &catalog),
        ("/api/v1/inventory", &catalog),
        ("/api/v1/admin/catalog-upload", &catalog),
        ("/reporte", &report),
        ("/campania", &report),
        ("/api/v1/reports", &report),
        ("/api/v1/admin/report", &report),
        ("/api/v1/contacts", &sms),
        ("/api/v1/suppressions", &sms),
        ("/api/v1/segments", &sms),
        ("/api/v1/admin/sms-dispatch", &sms),
        ("/etl", &etl),
        ("/api/v1/etl", &etl),
        ("/api/v1/scheduler", &etl),
        ("/api/v1/dashboard", &etl),
        ("/api/v1/evolution", &etl),
        ("/api/v1/assignment", &etl),
        ("/api/v1/operation", &etl),
        ("/api/v1/productivity", &etl),
        ("/api/v1/filters", &etl),
        ("/api/v1/admin/etl", &etl),
    ];
    let operations = operations(&world.admin).await?;
    let of_services = operations.iter().filter(|(_, path)| path.starts_with("/api/v1/catalog")).count();
    ensure!(of_services >= 5, "the services' documents are merged into the gateway's: {operations:?}");

    let (mut wrong, mut calls) = (Vec::new(), 0);
    for (method, path) in &operations {
        // Another spelling of a path is the same operation.
        let canonical = canonical(path);
        let Some((_, _, rule)) = RULES.iter().find(|(of, at, _)| of == method && *at == canonical) else {
            wrong.push(format!("{method} {path} is not in the table"));
            continue;
        };
        let at_service = services.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, url)| *url);
        for (who, client) in &world.callers {
            let mut ways = vec![("gateway", client.clone(), rule.expected(*who))];
            if let Some(direct) = at_service {
                // Services know tokens only; keys are the gateway's.
                let expected = if who.is_key() { 401 } else { rule.expected(*who) };
                ways.push(("service", client.at(direct), expected));
            }
            for (way, client, expected) in ways {
                calls += 1;
                let (status, body) = world.call(&client, method, &canonical, path).await?;
                if status != expected {
                    wrong.push(format!(
                        "{method} {path} by {who:?} at the {way}: {status}, not {expected}: {body}"
                    ));
                }
                let may_see = matches!(expected, 200..=299) && !matches!(who, Stranger | StrangersViewer);
                // What the caller itself asked for may come back to it.
                let shown = body.replace(&world.product, "");
                if !may_see && shown.contains(SECRET) {
                    wrong.push(format!(
                        "{method} {path} by {who:?} at the {way} shows the owner's data: {body}"
                    ));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{} of {calls} calls:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// The path of which `path` is another spelling, or itself.
fn canonical(path: &str) -> String {
    let spellings =
        [("/api/catalog", "/api/v1/catalog"), ("/auth", "/api/v1/auth"), ("/api/v1/me", "/api/v1/auth/me")];
    let found = spellings.iter().find_map(|(alias, own)| {
        let rest = path.strip_prefix(alias)?;
        // `/api/v1/messages` is not a spelling of `/api/v1/me`.
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{own}{rest}"))
    });
    found.unwrap_or_else(|| path.to_owned())
}

#[tokio::test]
async fn every_live_route_is_in_the_document_with_the_methods_that_it_says() -> Result<()> {
    let scene = Scene::start("routes", |options| {
        options.workers(0).with(&REPORT, 1).with(&SMS_DISPATCH, 1).with(&ETL, 1).env("ETL_BSALE", "false")
    })
    .await?;
    let platform = &scene.platform;
    let admin = platform.admin().await?;
    let mut wrong = Vec::new();
    let services =
        [&CATALOG_UPLOAD, &REPORT, &SMS_DISPATCH, &ETL].map(|service| platform.service(service).url());
    for base in services.into_iter().chain([platform.gateway_url()]) {
        let client = admin.at(&base);
        let mut documented = std::collections::BTreeMap::<String, Vec<String>>::new();
        for (method, path) in operations(&client).await? {
            documented.entry(path).or_default().push(method.to_uppercase());
        }
        ensure!(documented.len() > 8, "{base} has a document: {documented:?}");
        for (path, mut methods) in documented {
            if methods.contains(&"GET".to_owned()) {
                methods.push("HEAD".to_owned());
            }
            methods.sort();
            let target = path.replace(['{', '}'], "");
            let refused = client.request(Method::from_bytes(b"BREW")?, &target).send().await?;
            let allow = refused.headers().get("allow").and_then(|allow| allow.to_str().ok());
            if refused.status() != 405 || allow != Some(&methods.join(", ")) {
                wrong.push(format!("{base}{path}: {} {allow:?}, not {methods:?}", refused.status()));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn without_a_filter_a_supplier_sees_its_own_only() -> Result<()> {
    let scene = Scene::start("lists", |options| options).await?;
    let (owner, stranger) = (scene.platform.supplier(OWNER).await?, scene.platform.supplier(STRANGER).await?);
    let (file, _) = scene.workbook(&Spec::new(1, SECRET, 5))?;
    let task = task_id(&owner.upload(&Upload::new(&file, OWNER)).await?)?;
    owner.finished(&task, Duration::from_secs(60)).await?;
    for path in ["/api/v1/catalog/items", "/api/v1/catalog/bulk-upload", "/api/v1/catalog/items?q=producto"] {
        // A search finds what was imported a moment later.
        stack::wait::until(path, Duration::from_secs(60), async || {
            owner.get(path).await.is_ok_and(|own| own.status == 200 && own.body.to_string().contains(SECRET))
        })
        .await?;
        let others = stranger.get(path).await?;
        ensure!(others.status == 200 && others.body["items"] == json!([]), "{path}: {others}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reused_refresh_token_ends_the_session() -> Result<()> {
    let scene = Scene::start("refresh", |options| options.workers(0).env("REFRESH_GRACE_SECONDS", 0)).await?;
    let platform = &scene.platform;
    let nobody = Client::nobody(&platform.gateway_url());
    let login = json!({ "username": stack::platform::ADMIN, "password": platform.admin_password() });
    let first = nobody.post("/api/v1/auth/login", &login).await?.body["refresh_token"].clone();
    let refresh =
        async |token: &Value| nobody.post("/api/v1/auth/refresh", &json!({ "refresh_token": token })).await;
    let second = refresh(&first).await?;
    ensure!(second.status == 200, "{second}");
    let second = second.body["refresh_token"].clone();
    let third = refresh(&second).await?.body["refresh_token"].clone();
    if third.is_null() {
        bail!("a rotated token works once");
    }
    let reused = refresh(&first).await?;
    ensure!(reused.status == 401 && reused.body["access_token"].is_null(), "{reused}");
    // Who stole which is not known, so both are out.
    let family = refresh(&third).await?;
    ensure!(family.status == 401, "{family}");
    Ok(())
}
