//! Something of everybody's, and everybody who may or may not see it.

mod targets;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use reqwest::Method;
use serde_json::json;
use stack::platform::{Campaign, Client, Platform, Publisher, Settled, UPLOAD, Upload, answer, task_id};
use stack::process::Running;
use stack::services::{ETL, REPORT, SMS_DISPATCH};
use stack::workbook::Spec;

use self::targets::Body;
use super::rules::{ALL, Who, Who::*};
use super::{OWNER, SECRET, STRANGER};

pub struct World {
    pub scene: Scene,
    pub admin: Client,
    owner: Client,
    pub callers: Vec<(Who, Client)>,
    task: String,
    /// A task that may be taken back.
    undone: String,
    pub product: String,
    workbook: PathBuf,
    /// A run that is completed, and its campaign.
    report: String,
    campaign: String,
    contact: i64,
}

/// Today's campaigns are the reports' day.
fn report_day() -> String {
    chrono::Utc::now().format("%Y/%m/%d").to_string()
}

/// A run of one campaign, completed.
async fn report(platform: &Platform, admin: &Client) -> Result<(String, String)> {
    let publisher = Publisher::new(&platform.place);
    let campaign = Campaign::new("Una", chrono::Utc::now().date_naive());
    publisher.started(&campaign, 1).await?;
    publisher.settled(&campaign, &[Settled::sent(1, "hola")]).await?;
    let pool = platform.reports().await?;
    let arrived = "select id from ta_sms_maestro where version = 1 and filas = 1";
    stack::wait::until("the row of a campaign", Duration::from_secs(60), async || {
        sea_orm::sqlx::query_scalar::<_, i64>(arrived).fetch_one(&pool).await.is_ok()
    })
    .await?;
    let id: i64 = sea_orm::sqlx::query_scalar(arrived).fetch_one(&pool).await?;
    let asked = admin.post("/api/v1/reports", &json!({ "fecha": report_day() })).await?;
    let run = asked.body["id"].as_str().with_context(|| format!("ask for a report: {asked}"))?.to_owned();
    stack::wait::until("the report", Duration::from_secs(60), async || {
        let path = format!("/api/v1/reports/{run}");
        admin.get(&path).await.is_ok_and(|answer| answer.body["estado"] == "COMPLETADO")
    })
    .await?;
    Ok((run, id.to_string()))
}

impl World {
    pub async fn build() -> Result<Self> {
        let scene = Scene::start("access", |options| {
            // Without a source: who gets in is told that there is none.
            options.with(&REPORT, 1).with(&SMS_DISPATCH, 1).with(&ETL, 1).env("ETL_BSALE", "false")
        })
        .await?;
        let platform = &scene.platform;
        let base = platform.gateway_url();
        // First, because it has to grow old.
        let expiring = token_of(platform, "ACCESS_TOKEN_SECONDS", "1").await?;
        let grown_old = SystemTime::now() + Duration::from_secs(1 + 15 + 2);
        let other_audience = token_of(platform, "TOKEN_AUDIENCE", "somebody-else").await?;

        let admin = platform.admin().await?;
        let owner = platform.supplier(OWNER).await?;
        let stranger = platform.supplier(STRANGER).await?;
        let forged = {
            let (one, two) = (admin.token().context("a token")?, stranger.token().context("a token")?);
            let (claims, _) = one.rsplit_once('.').context("a signed token")?;
            let (_, signature) = two.rsplit_once('.').context("a signed token")?;
            format!("{claims}.{signature}")
        };
        let revoked = {
            let (id, key) = api_key(&owner, &[]).await?;
            let client = Client::api_key(&base, &key);
            ensure!(client.get("/api/v1/auth/me").await?.status == 200, "a new key works");
            ensure!(owner.delete(&format!("/api/v1/api-keys/{id}")).await?.status == 204, "revoke a key");
            client
        };
        let key =
            async |scopes: &[&str]| anyhow::Ok(Client::api_key(&base, &api_key(&owner, scopes).await?.1));
        let callers = vec![
            (Nobody, Client::nobody(&base)),
            (Garbage, Client::bearer(&base, "garbage")),
            (Forged, Client::bearer(&base, &forged)),
            (Expired, Client::bearer(&base, &expiring)),
            (OtherAudience, Client::bearer(&base, &other_audience)),
            (RevokedKey, revoked),
            (Admin, admin.clone()),
            (Operator, platform.user("operator", None).await?),
            (Owner, owner.clone()),
            (Stranger, stranger),
            (Viewer, platform.user("viewer", None).await?),
            (StrangersViewer, platform.user("viewer", Some(STRANGER)).await?),
            (Key, key(&[]).await?),
            (ReadKey, key(&["catalog:read"]).await?),
            (OtherKey, key(&["reports:read"]).await?),
        ];
        ensure!(callers.iter().map(|(who, _)| *who).eq(ALL), "every kind of caller is there");

        let (workbook, truth) = scene.workbook(&Spec::new(1, SECRET, 3))?;
        let task = task_id(&owner.upload(&Upload::new(&workbook, OWNER)).await?)?;
        owner.finished(&task, Duration::from_secs(60)).await?;
        let product = truth.created_ids().next().context("a product")?.to_owned();
        // Made beforehand: whoever asks first gets 202.
        let annotated = format!("/api/v1/catalog/bulk-upload/{task}/annotated.xlsx");
        stack::wait::until("the annotated workbook", Duration::from_secs(60), async || {
            owner.get(&annotated).await.is_ok_and(|answer| answer.status == 200)
        })
        .await?;
        let (spare, _) = scene.workbook(&Spec::new(2, "SPARE", 3))?;
        let undone = task_id(&owner.upload(&Upload::new(&spare, OWNER)).await?)?;
        owner.finished(&undone, Duration::from_secs(60)).await?;
        let (report, campaign) = report(platform, &admin).await?;
        let contact = contact(platform).await?;
        if let Ok(left) = grown_old.duration_since(SystemTime::now()) {
            // Clocks may differ by 15 s, says the verifier: until then it must believe the token.
            tokio::time::sleep(left).await;
        }
        Ok(Self { scene, admin, owner, callers, task, undone, product, workbook, report, campaign, contact })
    }

    /// The answer's status, and its body where that ends.
    pub async fn call(
        &self,
        client: &Client,
        method: &str,
        template: &str,
        spelling: &str,
    ) -> Result<(u16, String)> {
        let (path, body) = self.target(method, template).await?;
        // What both spellings end in stays.
        let common = template.bytes().rev().zip(spelling.bytes().rev()).take_while(|(a, b)| a == b).count();
        let (own, alias) = (&template[..template.len() - common], &spelling[..spelling.len() - common]);
        let path = format!("{alias}{}", path.strip_prefix(own).unwrap_or(&path));
        let request = client.request(Method::from_bytes(method.to_uppercase().as_bytes())?, &path);
        let request = match body {
            Body::Empty => request,
            Body::Json(json) => request.json(&json),
            Body::Form => request.multipart(reqwest::multipart::Form::new().text("nada", "nada")),
            Body::Workbook => client.upload_request(UPLOAD, &Upload::new(&self.workbook, OWNER)).await?,
        };
        if template == "/api/v1/stream" {
            return Ok((request.send().await?.status().as_u16(), String::new()));
        }
        let answer = answer(request).await?;
        Ok((answer.status.as_u16(), answer.body.to_string()))
    }
}

/// Somebody in the table.
async fn contact(platform: &Platform) -> Result<i64> {
    let pool = platform.contacts().await?;
    let id = sea_orm::sqlx::query_scalar(
        "insert into contacts (phone_e164, full_name, lada, is_valid, status, consent, import, source_id)
         values ('+526121004768', 'CATALINO', '612', true, 'ACTIVE', 'unknown', 1, 1) returning id",
    )
    .fetch_one(&pool)
    .await?;
    Ok(id)
}

/// A token of another gateway beside this one: the same keys, another setting.
async fn token_of(platform: &Platform, name: &str, value: &str) -> Result<String> {
    let port = stack::ports::free()?;
    let base = format!("http://127.0.0.1:{port}");
    let service = platform.gateway.service().clone().env("HTTP_PORT", port.to_string()).env(name, value);
    let running: Running = service.ready_when(&format!("{base}/health/live")).start().await?;
    let client = Client::login(&base, stack::platform::ADMIN, platform.admin_password()).await?;
    drop(running);
    Ok(client.token().context("a token")?.to_owned())
}

/// A new key: its id and the key itself.
async fn api_key(owner: &Client, scopes: &[&str]) -> Result<(String, String)> {
    let answer = owner.post("/api/v1/api-keys", &json!({ "name": "prueba", "scopes": scopes })).await?;
    let text =
        |name: &str| answer.body[name].as_str().map(str::to_owned).with_context(|| format!("{answer}"));
    Ok((text("id")?, text("key")?))
}
