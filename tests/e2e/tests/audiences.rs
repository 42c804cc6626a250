//! A file of people, from its upload through the gateway to what a campaign says to them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::Scene;
use reqwest::{
    Method,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use stack::{
    platform::{Answer, Client, answer},
    services::SMS_DISPATCH,
    wait,
};

const AUDIENCES: &str = "/api/v1/audiences";
const CAMPAIGNS: &str = "/api/v1/campaigns";
const SENDER: &str = "+525550001111";
const LIMIT: Duration = Duration::from_secs(60);
const CONSENT: &str = "consent_basis=contrato&consent_at=2026-01-31&consent_source=CRM";
/// Two people, one of them twice, and a row that is nobody.
const PEOPLE: &str = "Celular,Nombre,Saldo Total\n6121004768,Ana,\"1,250\"\n3312345670,Berta,80\n044 612 100 4768,Ana,9\n12345,Nadie,1\n";

async fn upload(client: &Client, query: &str, csv: &[u8], key: &str) -> Result<Answer> {
    let form = Form::new().part("file", Part::bytes(csv.to_vec()).file_name("clientes.csv"));
    let request = client.request(Method::POST, &format!("{AUDIENCES}?{query}"));
    answer(request.header("Idempotency-Key", key).multipart(form)).await
}

/// Waits until a file is as `right` says.
async fn when(client: &Client, path: &str, right: impl Fn(&Value) -> bool) -> Result<Value> {
    let began = Instant::now();
    loop {
        let answer = client.get(path).await?;
        if right(&answer.body) {
            return Ok(answer.body);
        }
        ensure!(began.elapsed() < LIMIT, "not in time: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn campaign(kind: &str, file: &str, text: &str) -> Value {
    let plan = json!({ "texts": [{ "text": text }], "audience": { "file_id": file }, "senders": [{ "address": SENDER }] });
    json!({ "name": "Clientes", "kind": kind, "plan": plan })
}

/// Uploads the file, and waits until it is loaded. Gives where it is.
async fn taken(operator: &Client, viewer: &Client) -> Result<String> {
    // Nobody is taken without a word, or by half of one.
    let half = upload(operator, "consent_basis=contrato", PEOPLE.as_bytes(), "half").await?;
    ensure!(half.status == 400 && half.body["code"] == "invalid_consent", "{half}");
    let odd = upload(operator, "", b"SQLite format 3\0", "odd").await?;
    ensure!(odd.status == 400 && odd.body["code"] == "invalid_file", "{odd}");

    let taken = upload(operator, CONSENT, PEOPLE.as_bytes(), "first").await?;
    ensure!(taken.status == 202, "{taken}");
    let (file, path) =
        (taken.body["id"].as_str().context("an id")?, taken.body["status_url"].as_str().context("a place")?);
    let again = upload(operator, CONSENT, PEOPLE.as_bytes(), "first").await?;
    ensure!(again.status == 202 && again.body["id"] == file, "{again}");
    let other = upload(operator, "", PEOPLE.as_bytes(), "first").await?;
    ensure!(other.status == 409 && other.body["code"] == "idempotency_key_reused", "{other}");
    let loaded = when(viewer, path, |file| file["status"] == "completed").await?;
    ensure!(
        (&loaded["rows"], &loaded["accepted"], &loaded["rejected"]) == (&json!(4), &json!(3), &json!(1)),
        "{loaded}"
    );
    ensure!(
        loaded["fields"] == json!(["celular", "nombre", "saldo_total", "primer_nombre", "ciudad"]),
        "{loaded}"
    );
    let rejected = operator.download(&format!("{path}/rejected.csv?crudo=true")).await?;
    let rejected = String::from_utf8(rejected)?;
    ensure!(rejected.contains("4,12345,phone_too_short"), "{rejected}");
    let masked = String::from_utf8(viewer.download(&format!("{path}/rejected.csv?crudo=true")).await?)?;
    ensure!(masked.contains("4,*****,phone_too_short"), "{masked}");
    Ok(path.to_owned())
}

async fn texts_and_consents_are_checked(operator: &Client, file: &str) -> Result<()> {
    let wrong = operator.post(CAMPAIGNS, &campaign("marketing", file, "Debe {saldo_totl}")).await?;
    ensure!(wrong.status == 422 && wrong.to_string().contains("¿quiso decir {saldo_total}?"), "{wrong}");
    let bare = upload(operator, "", PEOPLE.as_bytes(), "bare").await?;
    let bare = bare.body["id"].as_str().context("an id")?;
    let bare_path = format!("{AUDIENCES}/{bare}");
    when(operator, &bare_path, |file| file["status"] == "completed").await?;
    let advertising = operator.post(CAMPAIGNS, &campaign("marketing", bare, "Oferta")).await?;
    ensure!(advertising.status == 422 && advertising.to_string().contains("consentimiento"), "{advertising}");
    Ok(())
}

/// In the past it doesn't; taken back it does no more.
async fn goes_at_an_hour_of_its_recipients(operator: &Client, id: &str) -> Result<()> {
    let past = operator
        .post(&format!("{id}/schedule"), &json!({ "at_local": "10:00", "local_date": "2026-01-31" }))
        .await?;
    ensure!(past.status == 422 && past.body["code"] == "invalid_schedule", "{past}");
    let scheduled = operator
        .post(&format!("{id}/schedule"), &json!({ "at_local": "10:00", "local_date": "2199-01-31" }))
        .await?;
    ensure!(
        scheduled.status == 200
            && scheduled.body["at_local"] == "10:00"
            && scheduled.body["start_at"].as_str().is_some_and(|at| at.starts_with("2199-01-31T15:00:00")),
        "{scheduled}"
    );
    let back = operator.post(&format!("{id}/schedule"), &json!({ "start_at": null })).await?;
    ensure!(back.status == 200 && back.body["at_local"].is_null(), "{back}");
    Ok(())
}

#[tokio::test]
async fn a_campaign_says_to_the_people_of_a_file_what_its_columns_hold() -> Result<()> {
    let scene = Scene::start("audiences", |options| {
        options.workers(0).with(&SMS_DISPATCH, 1).env("SMS_LOG_PROVIDER", true).env("SMS_QUIET_HOURS", false)
    })
    .await?;
    let (admin, viewer) = (scene.platform.admin().await?, scene.platform.user("viewer", None).await?);
    let operator = scene.platform.user("operator", None).await?;
    let sender = json!({ "provider": "log", "kind": "long_code", "per_second": 100, "price_micros": 1, "currency": "USD" });
    wait::until("the worker's provider", LIMIT, async || {
        let kept = admin.put(&format!("/api/v1/sms/senders/{SENDER}"), &sender).await;
        kept.is_ok_and(|kept| kept.status == 200)
    })
    .await?;

    let path = taken(&operator, &viewer).await?;
    let file = path.rsplit('/').next().context("an id")?;
    texts_and_consents_are_checked(&operator, file).await?;
    let text = "Hola {primer_nombre}, debe {saldo total} en {ciudad|su ciudad}";
    let draft = operator.post(CAMPAIGNS, &campaign("marketing", file, text)).await?;
    ensure!(draft.status == 201, "{draft}");
    let id = format!("{CAMPAIGNS}/{}", draft.body["id"].as_str().context("an id")?);
    let held = operator.delete(&path).await?;
    ensure!(held.status == 409 && held.body["code"] == "in_use", "{held}");
    let preview = operator.get(&format!("{id}/preview")).await?;
    ensure!(
        (&preview.body["matched"], &preview.body["recipients"]) == (&json!(3), &json!(2))
            && preview.body["excluded"] == json!({ "repeated": 1 }),
        "{preview}"
    );
    let tested = json!({ "phones": ["5512345679"], "ciudad": "León", "columns": { "nombre": "Eva", "saldo_total": "1" } });
    let tested = operator.post(&format!("{id}/test"), &tested).await?;
    ensure!(tested.status == 202, "{tested}");

    goes_at_an_hour_of_its_recipients(&operator, &id).await?;
    let started = operator.post(&format!("{id}/start"), &Value::Null).await?;
    ensure!(started.status == 202, "{started}");
    when(&operator, &id, |campaign| campaign["state"] == "completed").await?;
    let messages = operator.get(&format!("{id}/messages")).await?;
    let mut texts: Vec<&str> = messages.body["items"]
        .as_array()
        .context("messages")?
        .iter()
        .filter_map(|message| message["text"].as_str())
        .collect();
    texts.sort_unstable();
    ensure!(texts.len() == 2 && texts[0].starts_with("Hola Ana, debe 1,250 en "), "{messages}");
    ensure!(texts[1].starts_with("Hola Berta, debe 80 en "), "{messages}");

    // Its people go when somebody says so, and no campaign begins with them any more.
    ensure!(operator.delete(&path).await?.status == 204);
    let gone = when(&operator, &path, |file| file["status"] == "deleted").await?;
    ensure!(!gone["deleted_at"].is_null(), "{gone}");
    let late = operator.post(CAMPAIGNS, &campaign("cobranza", file, "Hola")).await?;
    ensure!(late.status == 422, "{late}");
    ensure!(operator.get(&format!("{path}/rejected.csv")).await?.status == 409);
    Ok(())
}
