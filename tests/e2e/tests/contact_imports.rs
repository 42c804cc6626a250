//! A database of numbers becomes contacts: uploaded, watched, reported, rolled back.

use anyhow::{Context, Result, ensure};
use e2e::{Scene, figures};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use sea_orm::sqlx;
use serde_json::{Value, json};
use stack::contacts::{Dirt, Spec, Truth, generate};
use stack::platform::{Answer, Client, Options, answer};
use stack::services::SMS_DISPATCH;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const IMPORTS: &str = "/api/v1/contacts/imports";
const LIMIT: Duration = Duration::from_secs(120);

async fn scene(label: &str) -> Result<(Scene, Client)> {
    let scene = Scene::start(label, |options: Options| {
        options.workers(0).with(&SMS_DISPATCH, 1).env("CONTACTS_LEASE_SECONDS", 3)
    })
    .await?;
    let admin = scene.platform.admin().await?;
    Ok((scene, admin))
}

fn numbers(scene: &Scene, rows: u64, seed: u64) -> Result<(PathBuf, Truth)> {
    std::fs::create_dir_all(&scene.dir)?;
    let file = scene.dir.join(format!("numeros-{seed}.db"));
    let truth = generate(&file, &Spec { rows, seed, dirt: Dirt::default() }, |_| {})?;
    Ok((file, truth))
}

async fn send(client: &Client, file: &PathBuf, query: &[(&str, &str)], key: Option<&str>) -> Result<Answer> {
    let part = Part::bytes(std::fs::read(file)?).file_name("numeros.db");
    let request =
        client.request(Method::POST, IMPORTS).query(query).multipart(Form::new().part("file", part));
    answer(match key {
        Some(key) => request.header("Idempotency-Key", key),
        None => request,
    })
    .await
}

async fn ended(client: &Client, asked: &Answer) -> Result<Value> {
    let path = format!("{IMPORTS}/{}", asked.body["id"].as_str().with_context(|| asked.to_string())?);
    let began = Instant::now();
    loop {
        let import = client.get(&path).await?;
        let status = import.body["status"].as_str().with_context(|| import.to_string())?;
        if ["completed", "failed", "cancelled"].contains(&status) {
            return Ok(import.body);
        }
        ensure!(began.elapsed() < LIMIT, "not ended: {import}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whole for who sees phones, masked for who does not; and not before the import has ended.
async fn every_rejected_row_has_its_reason(
    scene: &Scene,
    admin: &Client,
    id: &str,
    rejected: &str,
    rejections: u64,
) -> Result<()> {
    let rows = String::from_utf8(admin.download(rejected).await?)?;
    let reasons = rows.matches(",phone_").count() as u64;
    ensure!(reasons == rejections, "{rows}");
    let viewer = scene.platform.user("viewer", None).await?;
    let masked = String::from_utf8(viewer.download(rejected).await?)?;
    ensure!(masked.lines().count() == rows.lines().count() && masked != rows, "{masked}");
    let longest = |text: &str| {
        let values = text.lines().skip(1).filter_map(|line| line.split(',').nth(1));
        values.map(|value| value.chars().filter(char::is_ascii_digit).count()).max()
    };
    ensure!(longest(&rows) > Some(4) && longest(&masked) <= Some(4), "{masked}");
    // Of an import that is at work the file would lack rows.
    let pool = scene.platform.contacts().await?;
    let at_work = "update jobs set state = 'pending', finished_at = null, result = null,
        next_run_at = now() + interval '1 hour' where id::text = $1";
    sqlx::query(at_work).bind(id).execute(&pool).await?;
    let early = admin.get(rejected).await?;
    ensure!(early.status == 409 && early.body["code"] == "not_finished", "{early}");
    let done = "update jobs set state = 'completed', finished_at = now() where id::text = $1";
    sqlx::query(done).bind(id).execute(&pool).await?;
    Ok(())
}

#[tokio::test]
async fn a_database_of_numbers_becomes_contacts_and_goes_again() -> Result<()> {
    let (scene, admin) = scene("contactimport").await?;
    let (file, truth) = numbers(&scene, 5_000, 1)?;

    let forecast = ended(&admin, &send(&admin, &file, &[("dry_run", "true")], None).await?).await?;
    let report =
        admin.get(&format!("{IMPORTS}/{}/report", forecast["id"].as_str().context("an id")?)).await?;
    ensure!(report.body["created"] == truth.contacts && report.body["merged"] == truth.merged, "{report}");

    let asked = send(&admin, &file, &[("consent_basis", "contrato")], Some("first")).await?;
    ensure!(asked.status == 202, "{asked}");
    let again = send(&admin, &file, &[("consent_basis", "contrato")], Some("first")).await?;
    ensure!(again.body["id"] == asked.body["id"], "{again}");
    let other = send(&admin, &file, &[], Some("first")).await?;
    ensure!(other.status == 409, "{other}");

    let import = ended(&admin, &asked).await?;
    let id = import["id"].as_str().context("an id")?;
    ensure!(import["status"] == "completed" && import["percent"] == 100.0, "{import}");
    ensure!(import["summary"]["rows"] == truth.rows, "{import}");
    ensure!(import["summary"]["created"] == truth.contacts, "{import}");
    let worker = &scene.platform.service(&SMS_DISPATCH).workers[0];
    for (series, counted) in [
        (r#"contacts_rows_total{outcome="created"}"#, truth.contacts),
        (r#"contacts_rows_total{outcome="merged"}"#, truth.merged),
        (r#"contacts_rows_total{outcome="rejected"}"#, truth.rejected.values().sum()),
        // The dry run, whose rows have no outcome, and this.
        (r#"contacts_imports_total{outcome="completed"}"#, 2),
    ] {
        figures::until(worker, series, |told| told == Some(counted as f64)).await?;
    }
    let report = admin.get(&format!("{IMPORTS}/{id}/report")).await?;
    ensure!(report.body["rejected_by_reason"] == json!(truth.rejected), "{report}");
    ensure!(
        report.body["sample"]["rows"] == 1_000 && report.body["sample"]["different"] == json!([]),
        "{report}"
    );
    let page = admin.download(&format!("{IMPORTS}/{id}/report?formato=md")).await?;
    ensure!(String::from_utf8(page)?.starts_with("# Calidad de la importación de numeros.db"));

    let rejected = format!("{IMPORTS}/{id}/rejected.csv?crudo=true");
    every_rejected_row_has_its_reason(&scene, &admin, id, &rejected, truth.rejected.values().sum()).await?;

    // The same file again changes nothing.
    let second = ended(&admin, &send(&admin, &file, &[], None).await?).await?;
    ensure!(
        second["summary"]["unchanged"] == truth.contacts && second["summary"]["created"] == 0,
        "{second}"
    );

    // The last one goes first.
    let early = admin.post(&format!("{IMPORTS}/{id}/rollback"), &Value::Null).await?;
    ensure!(early.status == 409, "{early}");
    for import in [&second, &import] {
        let path = format!("{IMPORTS}/{}", import["id"].as_str().context("an id")?);
        let asked = admin.post(&format!("{path}/rollback"), &Value::Null).await?;
        ensure!(asked.status == 202, "{asked}");
        stack::wait::until("the import should be rolled back", LIMIT, async || {
            admin.get(&path).await.is_ok_and(|import| import.body["status"] == "rolled_back")
        })
        .await?;
    }
    stack::wait::until("no contact should be left", LIMIT, async || {
        admin.get("/api/v1/contacts?limit=1").await.is_ok_and(|page| page.body["items"] == json!([]))
    })
    .await?;
    let gone = admin.get(&rejected).await?;
    ensure!(gone.status == 409 && gone.body["code"] == "rolled_back", "{gone}");
    let twice = admin.post(&format!("{IMPORTS}/{id}/rollback"), &Value::Null).await?;
    ensure!(twice.status == 409, "{twice}");
    Ok(())
}

#[tokio::test]
async fn who_may_not_import_is_told_so_and_so_is_who_sends_nonsense() -> Result<()> {
    let (scene, admin) = scene("contactrefused").await?;
    let (file, _) = numbers(&scene, 100, 2)?;
    for role in ["operator", "viewer"] {
        let refused = send(&scene.platform.user(role, None).await?, &file, &[], None).await?;
        ensure!(refused.status == 403, "{role}: {refused}");
    }
    for (query, code) in
        [(("consent_basis", " "), "invalid_consent_basis"), (("mapping", "telefono"), "invalid_mapping")]
    {
        let refused = send(&admin, &file, &[query], None).await?;
        ensure!(refused.status == 400 && refused.body["code"] == code, "{refused}");
    }
    let missing = admin.post(IMPORTS, &json!({"object_key": "contacts/no-such-file.db"})).await?;
    ensure!(missing.status == 404, "{missing}");
    let elsewhere = admin.post(IMPORTS, &json!({"object_key": "uploads/x"})).await?;
    ensure!(elsewhere.status == 400 && elsewhere.body["code"] == "invalid_object_key", "{elsewhere}");
    let unknown = admin.get(&format!("{IMPORTS}/00000000-0000-0000-0000-000000000000")).await?;
    ensure!(unknown.status == 404, "{unknown}");

    // What is neither a database nor a table fails with its reason.
    let nonsense = scene.dir.join("nonsense.db");
    std::fs::write(&nonsense, "hola\nmundo\n")?;
    let failed = ended(&admin, &send(&admin, &nonsense, &[], None).await?).await?;
    ensure!(failed["status"] == "failed", "{failed}");
    ensure!(
        failed["error"].as_str().is_some_and(|error| error.contains("no tiene una columna de teléfonos")),
        "{failed}"
    );
    Ok(())
}

#[tokio::test]
async fn an_import_of_a_stored_file_is_answered_again_when_its_file_is_gone() -> Result<()> {
    let (scene, admin) = scene("contactstored").await?;
    let (file, _) = numbers(&scene, 100, 4)?;
    let place = &scene.platform.place;
    let object = format!("{}/{}/contacts/numeros", place.servers().aws_endpoint, place.bucket());
    let http = stack::http();
    http.put(&object).body(std::fs::read(&file)?).send().await?.error_for_status()?;
    let start = async |key: &str| {
        let stored = json!({"object_key": "contacts/numeros"});
        answer(admin.request(Method::POST, IMPORTS).header("Idempotency-Key", key).json(&stored)).await
    };
    let first = start("stored").await?;
    ensure!(first.status == 202, "{first}");
    ensure!(ended(&admin, &first).await?["status"] == "completed");
    http.delete(&object).send().await?.error_for_status()?;
    let again = start("stored").await?;
    ensure!(again.status == 202 && again.body["id"] == first.body["id"], "{again}");
    let other = start("another").await?;
    ensure!(other.status == 404, "{other}");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_dies_is_followed_by_another() -> Result<()> {
    let (mut scene, admin) = scene("contactkill").await?;
    let (file, truth) = numbers(&scene, 100_000, 3)?;
    let asked = send(&admin, &file, &[], None).await?;
    let path = format!("{IMPORTS}/{}", asked.body["id"].as_str().context("an id")?);
    stack::wait::until("the import should be in its midst", LIMIT, async || {
        admin.get(&path).await.is_ok_and(|import| import.body["status"] == "running")
    })
    .await?;
    let worker = &mut scene.platform.service_mut(&SMS_DISPATCH).workers[0];
    worker.kill().await?;
    worker.restart().await?;
    let import = ended(&admin, &asked).await?;
    ensure!(import["status"] == "completed" && import["summary"]["created"] == truth.contacts, "{import}");

    // A rollback that failed goes on when it is asked for again.
    let rollback = format!("{path}/rollback");
    scene.platform.service(&SMS_DISPATCH).workers[0].kill().await?;
    ensure!(admin.post(&rollback, &Value::Null).await?.status == 202);
    let failed = "update jobs set state = 'failed', error = 'a disk was full', finished_at = now() where kind = 'sms.rollbacks'";
    let failed = sqlx::query(failed).execute(&scene.platform.contacts().await?).await?;
    ensure!(failed.rows_affected() == 1);
    scene.platform.service_mut(&SMS_DISPATCH).workers[0].restart().await?;
    ensure!(admin.post(&rollback, &Value::Null).await?.status == 202);
    stack::wait::until("the import should be rolled back", LIMIT, async || {
        admin.get(&path).await.is_ok_and(|import| import.body["status"] == "rolled_back")
    })
    .await
}
