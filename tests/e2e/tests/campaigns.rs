//! A campaign's whole way: through the gateway, to the ledger, to a provider that misbehaves, back by webhook, and into
//! report's table. What the provider accepted is the truth.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use e2e::{Scene, figures};
use reqwest::Method;
use sea_orm::sqlx::{self, PgPool};
use serde_json::{Value, json};
use simulators::messages::{Faults, Messages, PROFILE};
use stack::{
    platform::Client,
    services::{REPORT, SMS_DISPATCH},
};

const CAMPAIGNS: &str = "/api/v1/campaigns";
const SENDER: &str = "+525550001111";
const LIMIT: Duration = Duration::from_secs(180);
const KEY: &str = "KEY-of-a-test";

struct World {
    scene: Scene,
    admin: Client,
    pool: PgPool,
    reports: PgPool,
    telnyx: Messages,
}

impl World {
    async fn new(label: &str, workers: usize, per_second: u32, faults: Faults) -> Result<Self> {
        stack::install_tls();
        let telnyx = Messages::telnyx(KEY, 0)?;
        telnyx.set_faults(faults);
        let (url, key) = (telnyx.url(), telnyx.public_key().context("a key")?);
        let (namespace, place, options) = e2e::place(label).await?;
        let options = options
            .workers(0)
            .with(&SMS_DISPATCH, workers)
            .with(&REPORT, 1)
            .env("TELNYX_URL", url)
            .env("TELNYX_API_KEY", KEY)
            .env("TELNYX_PUBLIC_KEY", key)
            .env("TELNYX_PROFILE_ID", PROFILE)
            .env("TELNYX_PARTS_PER_SECOND", per_second)
            .env("SMS_QUIET_HOURS", false)
            // Workers that are killed leave many messages of which nobody knows, and a campaign would pause for them.
            .env("SMS_PAUSE_ABOVE_PERCENT", 100)
            .env("SMS_LEASE_SECONDS", 3);
        let scene = Scene::on(namespace, place, &options).await?;
        let (admin, pool) = (scene.platform.admin().await?, scene.platform.contacts().await?);
        let reports = scene.platform.reports().await?;
        let world = Self { scene, admin, pool, reports, telnyx };
        world.sender().await?;
        Ok(world)
    }

    async fn sender(&self) -> Result<()> {
        let wish = json!({ "provider": "telnyx", "kind": "long_code", "per_second": 5_000, "price_micros": 5_100, "currency": "USD" });
        let began = Instant::now();
        loop {
            // The worker writes which providers it has.
            let kept = self.admin.put(&format!("/api/v1/sms/senders/{SENDER}"), &wish).await?;
            if kept.status == 200 {
                return Ok(());
            }
            ensure!(began.elapsed() < LIMIT, "{kept}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn contacts(&self, many: i32) -> Result<()> {
        sqlx::query(
            "insert into contacts (phone_e164, full_name, city, lada, state_code, is_valid, is_mobile, status, consent, import,
                                   source_id)
             select '+52612' || lpad((1000000 + n * 10)::text, 7, '0'), 'PERSONA ' || n, 'La Paz', '612', 'BCS', true, true,
                    'ACTIVE', 'contrato', 1, n from generate_series(1, $1) n",
        )
        .bind(many)
        .execute(&self.pool)
        .await?;
        sqlx::query(
            "insert into imports (id, source, kind, mode, imported_by, source_rows, created, updated, unchanged, merged, rejected)
             select gen_random_uuid(), 'prueba', 'csv', 'merge', 'test', $1, $1, 0, 0, 0, 0",
        )
        .bind(i64::from(many))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn start(&self, kind: &str) -> Result<String> {
        let plan = json!({ "texts": [{ "text": "Hola {nombre}" }], "audience": { "filter": {} }, "senders": [{ "address": SENDER }] });
        let campaign = json!({ "name": "Recorrido", "kind": kind, "plan": plan });
        let draft = self.admin.post(CAMPAIGNS, &campaign).await?;
        ensure!(draft.status == 201, "{draft}");
        let id = draft.body["id"].as_str().context("an id")?.to_owned();
        let started = self.admin.post(&format!("{CAMPAIGNS}/{id}/start"), &Value::Null).await?;
        ensure!(started.status == 202, "{started}");
        Ok(id)
    }

    async fn progress(&self, id: &str) -> Result<Value> {
        Ok(self.admin.get(&format!("{CAMPAIGNS}/{id}/progress")).await?.body)
    }

    async fn when(&self, id: &str, right: impl Fn(&Value) -> bool) -> Result<Value> {
        let began = Instant::now();
        loop {
            let progress = self.progress(id).await?;
            if right(&progress) {
                return Ok(progress);
            }
            ensure!(began.elapsed() < LIMIT, "not in time: {progress}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Fails unless the provider accepted as many messages as there are recipients, each once, and the ledger, the totals and
    /// report's table say what it did with them.
    async fn is_the_truth(&self, id: &str, recipients: usize) -> Result<()> {
        let mut by_phone: HashMap<String, usize> = HashMap::new();
        for accepted in self.telnyx.accepted() {
            *by_phone.entry(accepted.to).or_default() += 1;
        }
        ensure!(by_phone.len() == recipients, "{} of {recipients} were accepted", by_phone.len());
        let twice: Vec<_> = by_phone.values().filter(|times| **times > 1).collect();
        ensure!(twice.is_empty(), "{} were accepted twice", twice.len());
        let began = Instant::now();
        loop {
            let told: BTreeMap<String, i64> = sqlx::query_as::<_, (String, i64)>(
                "select d.estado, count(*) from ta_sms_detalle d join ta_sms_maestro m on m.id = d.id_maestro
                 where m.origen_id = $1 group by 1",
            )
            .bind(id)
            .fetch_all(&self.reports)
            .await?
            .into_iter()
            .collect();
            let ledger: BTreeMap<String, i64> = sqlx::query_as::<_, (String, i64)>(
                "select case when m.state in (3, 4, 5, 8) then 'ENVIADO' when m.state in (0, 1, 2) then 'PENDIENTE' else 'FALLIDO' end,
                        count(*) from messages m join campaigns c on c.number = m.campaign where c.id = $1::uuid group by 1",
            )
            .bind(id)
            .fetch_all(&self.pool)
            .await?
            .into_iter()
            .collect();
            let state: Option<String> =
                sqlx::query_scalar("select estado from ta_sms_maestro where origen_id = $1")
                    .bind(id)
                    .fetch_optional(&self.reports)
                    .await?;
            if told == ledger && state.as_deref() == Some("COMPLETADA") {
                break;
            }
            ensure!(began.elapsed() < LIMIT, "report has {told:?} ({state:?}), the ledger {ledger:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut findings = self.scene.platform.doctor().await?;
        // These people come from no import, and so have no operator of the numbering plan's.
        findings.retain(|finding| !finding.starts_with("contact "));
        ensure!(findings.is_empty(), "{findings:#?}");
        Ok(())
    }
}

#[tokio::test]
async fn a_campaign_reaches_everybody_once_and_report_says_so() -> Result<()> {
    let faults = Faults { doubled: 0.1, reordered: 0.1, early: 0.2, late_ms: 50, ..Faults::default() };
    let world = World::new("campaign", 1, 2_000, faults).await?;
    world.contacts(2_000).await?;
    let id = world.start("marketing").await?;
    let done = world
        .when(&id, |progress| progress["state"] == "completed" && progress["messages"]["delivered"] == 2_000)
        .await?;
    ensure!(done["recipients"] == 2_000 && done["parts"] == 2_000, "{done}");
    world.is_the_truth(&id, 2_000).await?;
    // Each message came into these once. A claim that a slow machine comes to too late is taken back, which makes the message
    // pending, and made again: without those, 2,000 were claimed. Counted when it has committed: a moment after it is seen.
    let series = ["submitting", "pending", "delivered"]
        .map(|state| format!(r#"sms_messages_total{{provider="telnyx",state="{state}"}}"#));
    let right = |[submitting, taken_back, delivered]: [f64; 3]| {
        submitting - taken_back == 2_000.0 && delivered == 2_000.0
    };
    let service = world.scene.platform.service(&SMS_DISPATCH);
    figures::until_sums(service, series.each_ref().map(String::as_str), right).await?;

    // Whoever answers BAJA is left out from then on: the next campaign of whatever kind counts them so.
    let phone = "+526121000150";
    let webhook = format!("{}/webhooks/telnyx", world.scene.platform.gateway_url());
    let written = Instant::now();
    world.telnyx.write(phone, SENDER, "Baja, por favor.", &webhook, uuid::Uuid::new_v4());
    loop {
        let known = world.admin.get(&format!("/api/v1/suppressions/{phone}")).await?;
        if known.status == 200 && known.body["suppressed"] == true {
            break;
        }
        ensure!(written.elapsed() < LIMIT, "{known}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = world.start("cobranza").await?;
    let done = world.when(&second, |progress| progress["state"] == "completed").await?;
    ensure!(done["excluded"]["opt_out"] == 1 && done["recipients"] == 1_999, "{done}");
    Ok(())
}

#[tokio::test]
async fn workers_killed_in_mid_sending_send_nothing_twice_and_leave_nobody_out() -> Result<()> {
    let faults = Faults { answer_ms: 40, lost_answers: 0.01, ..Faults::default() };
    let mut world = World::new("campaignkill", 2, 250, faults).await?;
    world.contacts(3_000).await?;
    let id = world.start("cobranza").await?;
    for round in 1..=3_usize {
        world
            .when(&id, |progress| {
                let pending = progress["messages"]["pending"].as_u64().unwrap_or(3_000);
                progress["recipients"] == 3_000 && pending < 3_000 - 500 * round as u64
            })
            .await?;
        let worker = &mut world.scene.platform.service_mut(&SMS_DISPATCH).workers[round % 2];
        worker.kill().await?;
        worker.restart().await?;
    }
    // Of requests that a dead worker had announced and not made nobody knows but the provider.
    let done = world.when(&id, |progress| progress["state"] == "completed").await?;
    let unknown = done["messages"]["unknown"].as_u64().unwrap_or_default();
    let (accepted, in_flight) = (world.telnyx.accepted().len() as u64, 3 * 4 * 64);
    ensure!(unknown <= in_flight + 30 && accepted + unknown >= 3_000, "{accepted} were accepted: {done}");
    // Whatever was accepted is known by its webhook, whether its answer came or not.
    world
        .when(&id, |progress| {
            let unknown = progress["messages"]["unknown"].as_u64().unwrap_or_default();
            progress["messages"]["delivered"].as_u64() == Some(accepted) && unknown == 3_000 - accepted
        })
        .await?;
    // So a person may have the rest sent.
    let resolve = format!("{CAMPAIGNS}/{id}/resolve");
    let resend = json!({ "action": "resend", "older_than_minutes": 0 });
    let resent = world.admin.post(&resolve, &resend).await?;
    ensure!(resent.status == 200 && resent.body["messages"] == 3_000 - accepted, "{resent}");
    world
        .when(&id, |progress| progress["state"] == "completed" && progress["messages"]["delivered"] == 3_000)
        .await?;
    world.is_the_truth(&id, 3_000).await
}

#[tokio::test]
async fn a_campaign_is_foretold_and_its_links_opt_out_by_their_button_alone() -> Result<()> {
    let world = World::new("campaignlink", 1, 1_000, Faults::default()).await?;
    world.contacts(200).await?;
    let plan = json!({
        "texts": [{ "text": "Hola {nombre}. Baja: {baja}" }], "audience": { "filter": {} }, "senders": [{ "address": SENDER }],
        "most_cost": { "micros": 200 * 5_100, "currency": "USD" },
    });
    let draft =
        world.admin.post(CAMPAIGNS, &json!({ "name": "x", "kind": "cobranza", "plan": plan })).await?;
    let id = draft.body["id"].as_str().with_context(|| format!("{draft}"))?.to_owned();
    let told = world.admin.get(&format!("{CAMPAIGNS}/{id}/preview")).await?;
    ensure!(told.body["exact"] == true && told.body["recipients"] == 200, "{told}");
    ensure!(told.body["parts"]["total"] == 200 && told.body["costs"][0]["micros"] == 200 * 5_100, "{told}");
    ensure!(told.body["by_state"][0]["state_name"] == "Baja California Sur", "{told}");
    ensure!(told.body["examples"][0]["text"].as_str().is_some_and(|text| text.contains("Persona")), "{told}");
    let started = world.admin.post(&format!("{CAMPAIGNS}/{id}/start"), &Value::Null).await?;
    ensure!(started.status == 202, "{started}");
    world.when(&id, |progress| progress["messages"]["delivered"] == 200).await?;
    ensure!(world.admin.get(&format!("{CAMPAIGNS}/{id}/preview")).await?.status == 409, "it has started");

    let accepted = world.telnyx.accepted();
    let message = accepted.first().context("a message")?;
    let text = message.text.as_deref().unwrap_or_default();
    let gateway = world.scene.platform.gateway_url();
    let path = text.split_once(&gateway).map(|(_, path)| path).with_context(|| text.to_owned())?;
    let nobody = Client::nobody(&gateway);
    let known = async || world.admin.get(&format!("/api/v1/suppressions/{}", message.to)).await;
    for _ in 0..3 {
        let shown = nobody.get(path).await?;
        ensure!(shown.status == 200 && shown.content_type.starts_with("text/html"), "{shown}");
        ensure!(
            shown.to_string().contains(&message.to[9..]) && !shown.to_string().contains(&message.to),
            "{shown}"
        );
    }
    ensure!(known().await?.status == 404, "to look is not to act");
    let page = nobody.request(Method::GET, path).send().await?;
    let header =
        |name: &str| page.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(header("content-security-policy").contains("default-src 'none'"), "{page:?}");
    ensure!(header("referrer-policy") == "no-referrer" && header("cache-control") == "no-store", "{page:?}");
    for _ in 0..2 {
        let acted = nobody.request(Method::POST, path).form(&[("x", "y")]).send().await?;
        ensure!(acted.status() == 200, "{acted:?}");
        ensure!(known().await?.body["suppressed"] == true, "at once, and once more changes nothing");
    }
    let mut other = path.to_owned();
    let last = if other.pop() == Some('A') { 'B' } else { 'A' };
    other.push(last);
    ensure!(nobody.request(Method::POST, &other).send().await?.status() == 404, "{other}");
    ensure!(nobody.request(Method::DELETE, path).send().await?.status() == 405);
    // From then on it is in no campaign of whatever kind.
    let second = world.start("cobranza").await?;
    let done = world.when(&second, |progress| progress["state"] == "completed").await?;
    ensure!(done["excluded"]["opt_out"] == 1 && done["recipients"] == 199, "{done}");
    Ok(())
}

#[tokio::test]
async fn a_single_message_goes_before_a_campaign_and_tests_stay_out_of_its_totals() -> Result<()> {
    let world = World::new("campaignsingle", 1, 20, Faults::default()).await?;
    world.contacts(4_000).await?;
    // At 20 parts a second the campaign has minutes to go.
    let bulk = world.start("cobranza").await?;
    world.when(&bulk, |progress| progress["messages"]["accepted"].as_u64().unwrap_or_default() > 0).await?;
    let wish = json!({ "to": "612 100 0155", "text": "Código 123", "sender": SENDER });
    let key = [("idempotency-key", "una-vez")];
    let send = async || {
        let request = world.admin.request(Method::POST, "/api/v1/messages").header(key[0].0, key[0].1);
        anyhow::Ok(request.json(&wish).send().await?.json::<Value>().await?)
    };
    let taken = send().await?;
    let id = taken["id"].as_str().with_context(|| format!("{taken}"))?.to_owned();
    ensure!(send().await?["id"] == id.as_str(), "the same key is the same message");
    let began = Instant::now();
    loop {
        let accepted = world.telnyx.accepted();
        if accepted.iter().any(|one| one.text.as_deref() == Some("Código 123")) {
            break;
        }
        // The campaign has four times as many.
        ensure!(accepted.len() < 1_000 && began.elapsed() < LIMIT, "it waits behind the campaign");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let shown = world.admin.get(&format!("/api/v1/messages/{id}")).await?;
    ensure!(shown.body["text"] == "Código 123" && shown.body["phone"] == "+526121000155", "{shown}");
    let listed = world.admin.get("/api/v1/messages?phone=6121000155").await?;
    ensure!(listed.body["items"][0]["id"] == id.as_str(), "{listed}");

    let draft = json!({ "name": "x", "kind": "marketing", "plan": {
        "texts": [{ "text": "Hola {primer_nombre}. {baja}" }, { "text": "Adiós {ciudad|ahí}" }],
        "audience": { "filter": {} }, "senders": [{ "address": SENDER }] } });
    let draft = world.admin.post(CAMPAIGNS, &draft).await?.body["id"].as_str().context("an id")?.to_owned();
    let path = format!("{CAMPAIGNS}/{draft}/test");
    let missing = world.admin.post(&path, &json!({ "phones": ["6121000165"] })).await?;
    ensure!(missing.status == 422 && missing.to_string().contains("primer_nombre"), "{missing}");
    let tested = world.admin.post(&path, &json!({ "phones": ["6121000165"], "nombre": "Ana Ruiz" })).await?;
    ensure!(
        tested.status == 202 && tested.body["messages"].as_array().is_some_and(|all| all.len() == 2),
        "{tested}"
    );
    let began = Instant::now();
    let link = loop {
        let accepted = world.telnyx.accepted();
        let text =
            accepted.iter().filter_map(|one| one.text.as_deref()).find(|text| text.starts_with("Hola Ana. "));
        if let Some((_, path)) = text.and_then(|text| text.split_once(&world.scene.platform.gateway_url())) {
            break path.to_owned();
        }
        ensure!(accepted.len() < 2_000 && began.elapsed() < LIMIT, "the test waits behind the campaign");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    ensure!(world.progress(&draft).await?["messages"] == json!({}), "outside of its totals");
    // The link of a test works: whoever tries it opts out, and is tested on no more.
    let nobody = Client::nobody(&world.scene.platform.gateway_url());
    ensure!(nobody.request(Method::POST, &link).send().await?.status() == 200);
    let refused = world.admin.post(&path, &json!({ "phones": ["6121000165"], "nombre": "Ana" })).await?;
    ensure!(refused.status == 409 && refused.body["code"] == "suppressed", "{refused}");
    ensure!(world.progress(&bulk).await?["state"] == "running", "the campaign still goes on");
    Ok(())
}

#[tokio::test]
async fn a_costly_campaign_is_approved_by_somebody_else_and_a_change_voids_that() -> Result<()> {
    let world = World::new("campaignapproval", 1, 1_000, Faults::default()).await?;
    world.contacts(20).await?;
    // What a start is judged by.
    sqlx::query("refresh materialized view contact_cube").execute(&world.pool).await?;
    // Twenty parts of it cost 2,000 USD.
    let costly = json!({ "provider": "telnyx", "kind": "long_code", "per_second": 5_000, "price_micros": 100_000_000, "currency": "USD" });
    let kept = world.admin.put(&format!("/api/v1/sms/senders/{SENDER}"), &costly).await?;
    ensure!(kept.status == 200, "{kept}");
    let campaign = |text: &str| {
        let plan = json!({ "texts": [{ "text": text }], "audience": { "filter": {} }, "senders": [{ "address": SENDER }] });
        json!({ "name": "Cara", "kind": "cobranza", "plan": plan })
    };
    let draft = world.admin.post(CAMPAIGNS, &campaign("Hola")).await?;
    let id = draft.body["id"].as_str().with_context(|| format!("{draft}"))?.to_owned();
    let path = format!("{CAMPAIGNS}/{id}");
    let post = async |client: &Client, action: &str, body: Value| {
        client.post(&format!("{path}/{action}"), &body).await
    };
    let needs_approval = async || {
        let started = post(&world.admin, "start", Value::Null).await?;
        ensure!(started.status == 409 && started.body["code"] == "needs_approval", "{started}");
        anyhow::Ok(())
    };
    needs_approval().await?;
    let later = post(&world.admin, "schedule", json!({ "start_at": "2040-01-01T16:00:00Z" })).await?;
    ensure!(later.status == 409 && later.body["code"] == "needs_approval", "{later}");
    let own = post(&world.admin, "approve", Value::Null).await?;
    ensure!(own.status == 409 && own.body["code"] == "same_editor", "{own}");
    let other = world.scene.platform.user("operator", None).await?;
    let approved = post(&other, "approve", Value::Null).await?;
    ensure!(approved.status == 200 && approved.body["approved_by"].is_string(), "{approved}");
    // Whoever goes by what they read before is told so.
    let read_before = world.admin.request(Method::POST, &format!("{path}/start")).header("if-match", "\"1\"");
    ensure!(read_before.json(&Value::Null).send().await?.status() == 412);

    let changed = world.admin.put(&path, &campaign("Adiós")).await?;
    ensure!(changed.status == 200 && changed.body["approved_by"].is_null(), "{changed}");
    needs_approval().await?;
    let approved = post(&other, "approve", Value::Null).await?;
    ensure!(approved.status == 200, "{approved}");
    let started = post(&world.admin, "start", Value::Null).await?;
    ensure!(started.status == 202, "{started}");
    world.when(&id, |progress| progress["messages"]["delivered"] == 20).await?;
    ensure!(world.telnyx.accepted().iter().all(|one| one.text.as_deref() == Some("Adiós")));
    Ok(())
}

#[tokio::test]
async fn what_nobody_signed_is_refused_and_what_no_field_has_is_named() -> Result<()> {
    let world = World::new("campaignodd", 1, 50, Faults::default()).await?;
    let nobody = Client::nobody(&world.scene.platform.gateway_url());
    let forged = nobody.post("/webhooks/telnyx", &json!({ "data": {} })).await?;
    ensure!(forged.status == 403 && forged.body["code"] == "invalid_signature", "{forged}");
    let plan = json!({ "texts": [{ "text": "Hola {apodo}" }], "audience": { "filter": {} }, "senders": [{ "address": SENDER }] });
    let unknown =
        world.admin.post(CAMPAIGNS, &json!({ "name": "x", "kind": "cobranza", "plan": plan })).await?;
    ensure!(unknown.status == 422 && unknown.to_string().contains("apodo"), "{unknown}");
    let odd = world.admin.post(CAMPAIGNS, &json!({ "name": "x", "kind": "cobranza", "plna": {} })).await?;
    ensure!(odd.status.is_client_error() && odd.to_string().contains("plna"), "{odd}");
    Ok(())
}
