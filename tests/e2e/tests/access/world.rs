//! Something of everybody's, and everybody who may or may not see it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use reqwest::Method;
use serde_json::{Value, json};
use stack::platform::{Campaign, Client, Platform, Publisher, Settled, UPLOAD, Upload, answer, task_id};
use stack::process::Running;
use stack::services::{ETL, REPORT, SMS_DISPATCH};
use stack::workbook::Spec;

use super::rules::{ALL, Who, Who::*};
use super::{OWNER, SECRET, STRANGER};

/// What a request carries.
enum Body {
    Empty,
    Json(Value),
    Workbook,
    /// A form without a file.
    Form,
}

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

    /// A user whom nobody will miss.
    async fn fresh_user(&self) -> Result<(String, String, String)> {
        let (name, password) = (format!("t{}", stack::random_hex(6)), stack::random_hex(10));
        let user = json!({ "username": name, "password": password, "role": "viewer" });
        let answer = self.admin.post("/api/v1/users", &user).await?;
        let id = answer.body["id"].as_str().with_context(|| format!("create a user: {answer}"))?;
        Ok((id.to_owned(), name, password))
    }

    /// A product of the owner's that nobody will miss.
    async fn fresh_product(&self) -> Result<String> {
        let id = format!("F-{}", stack::random_hex(6));
        let answer = self.owner.post("/api/v1/catalog/items", &product(&id, &id)).await?;
        ensure!(answer.status == 201, "create a product: {answer}");
        Ok(id)
    }

    /// A schedule that nobody will miss.
    async fn fresh_schedule(&self) -> Result<String> {
        let answer = self.admin.post("/api/v1/reports/schedules", &json!({ "cron": "0 6 * * *" })).await?;
        Ok(answer.body["id"].as_str().with_context(|| format!("create a schedule: {answer}"))?.to_owned())
    }

    /// A schedule of syncs that nobody will miss.
    async fn fresh_sync(&self) -> Result<String> {
        let answer = self.admin.post("/api/v1/etl/schedules", &sync_schedule()).await?;
        Ok(answer.body["id"].as_str().with_context(|| format!("create a schedule: {answer}"))?.to_owned())
    }

    /// A segment that nobody will miss.
    async fn fresh_segment(&self) -> Result<String> {
        let segment = json!({ "name": stack::random_hex(6) });
        let answer = self.admin.post("/api/v1/segments", &segment).await?;
        Ok(answer.body["id"].as_str().with_context(|| format!("create a segment: {answer}"))?.to_owned())
    }

    async fn fresh_refresh_token(&self) -> Result<String> {
        let (_, name, password) = self.fresh_user().await?;
        let login = json!({ "username": name, "password": password });
        let answer =
            Client::nobody(&self.scene.platform.gateway_url()).post("/api/v1/auth/login", &login).await?;
        let token = answer.body["refresh_token"].as_str();
        Ok(token.with_context(|| format!("login: {answer}"))?.to_owned())
    }

    /// The path and body of one call: each has a target of its own, so that no call spoils the next one's.
    async fn target(&self, method: &str, template: &str) -> Result<(String, Body)> {
        let letters = json!({ "filter": {}, "dry_run": true });
        let plain = |path: &str| Ok((path.to_owned(), Body::Empty));
        match (method, template) {
            ("post", "/api/v1/auth/login") => {
                let (_, name, password) = self.fresh_user().await?;
                Ok((template.to_owned(), Body::Json(json!({ "username": name, "password": password }))))
            }
            ("post", "/api/v1/auth/refresh" | "/api/v1/auth/logout") => {
                let token = self.fresh_refresh_token().await?;
                Ok((template.to_owned(), Body::Json(json!({ "refresh_token": token }))))
            }
            ("post", "/api/v1/auth/password") => {
                let change = json!({ "current_password": "whatever it is", "new_password": "corta" });
                Ok((template.to_owned(), Body::Json(change)))
            }
            ("post", "/api/v1/users") => {
                let user = json!({
                    "username": format!("n{}", stack::random_hex(6)), "password": stack::random_hex(10), "role": "viewer",
                });
                Ok((template.to_owned(), Body::Json(user)))
            }
            ("patch", "/api/v1/users/{id}") => {
                let (id, _, _) = self.fresh_user().await?;
                Ok((format!("/api/v1/users/{id}"), Body::Json(json!({ "name": "Otro nombre" }))))
            }
            (_, path) if path.starts_with("/api/v1/users/{id}") => {
                let (id, _, _) = self.fresh_user().await?;
                plain(&path.replace("{id}", &id))
            }
            ("post", "/api/v1/api-keys") => {
                Ok((template.to_owned(), Body::Json(json!({ "name": "una clave" }))))
            }
            ("delete", "/api/v1/api-keys/{id}") => {
                plain(&format!("/api/v1/api-keys/{}", api_key(&self.owner, &[]).await?.0))
            }
            ("post", UPLOAD) => Ok((format!("{UPLOAD}?proveedor_id={OWNER}"), Body::Workbook)),
            ("get", "/api/v1/catalog/bulk-upload") => plain(&format!("{template}?proveedor_id={OWNER}")),
            ("get", "/api/v1/catalog/items") => plain(&format!("{template}?proveedorId={OWNER}")),
            ("get", path) if path.starts_with("/api/v1/catalog/items/{id}") => {
                plain(&path.replace("{id}", &self.product))
            }
            ("post", "/api/v1/catalog/items") => {
                let id = format!("N-{}", stack::random_hex(6));
                Ok((template.to_owned(), Body::Json(product(&id, &id))))
            }
            ("put", "/api/v1/catalog/items/{id}") => {
                let id = self.fresh_product().await?;
                Ok((template.replace("{id}", &id), Body::Json(product(&id, &id))))
            }
            ("delete", "/api/v1/catalog/items/{id}") => {
                plain(&template.replace("{id}", &self.fresh_product().await?))
            }
            ("post", "/api/v1/catalog/bulk-upload/{task_id}/undo") => {
                plain(&template.replace("{task_id}", &self.undone))
            }
            ("get", "/reporte") => plain(&format!("{template}?fecha={}", report_day())),
            ("post", "/api/v1/reports") => {
                Ok((template.to_owned(), Body::Json(json!({ "fecha": report_day() }))))
            }
            ("post" | "put", path) if path.starts_with("/api/v1/reports/schedules") => {
                let path = path.replace("{id}", &self.fresh_schedule().await?);
                Ok((path, Body::Json(json!({ "cron": "0 7 * * *", "activo": false }))))
            }
            (_, "/api/v1/reports/schedules/{id}") => {
                plain(&template.replace("{id}", &self.fresh_schedule().await?))
            }
            (_, path) if path.starts_with("/api/v1/reports/") || path.starts_with("/reporte/") => {
                plain(&path.replace("{id}", &self.report).replace("{id_campana}", &self.campaign))
            }
            ("post", "/api/v1/suppressions/imports") => Ok((format!("{template}?reason=manual"), Body::Form)),
            (_, "/api/v1/suppressions/{phone}") => plain("/api/v1/suppressions/6121004799"),
            ("post", "/api/v1/contacts/imports") => {
                Ok((template.to_owned(), Body::Json(json!({ "object_key": "uploads/other" }))))
            }
            ("post", "/api/v1/contacts/validations") => {
                Ok((template.to_owned(), Body::Json(json!({ "budget": 1 }))))
            }
            (_, path)
                if path.starts_with("/api/v1/contacts/imports/{id}")
                    || path.starts_with("/api/v1/contacts/validations/{id}") =>
            {
                plain(&path.replace("{id}", "00000000-0000-0000-0000-000000000000"))
            }
            ("patch", "/api/v1/contacts/{id}") => {
                let path = template.replace("{id}", &self.contact.to_string());
                Ok((path, Body::Json(json!({ "city": stack::random_hex(3) }))))
            }
            (_, path) if path.starts_with("/api/v1/contacts/{id}") => {
                plain(&path.replace("{id}", &self.contact.to_string()))
            }
            ("post", "/api/v1/segments/preview" | "/api/v1/dashboard" | "/api/v1/evolution") => {
                Ok((template.to_owned(), Body::Json(json!({}))))
            }
            ("post" | "put", path) if path.starts_with("/api/v1/segments") => {
                let path = path.replace("{id}", &self.fresh_segment().await?);
                Ok((path, Body::Json(json!({ "name": stack::random_hex(6) }))))
            }
            ("post" | "put", "/api/v1/campaigns" | "/api/v1/campaigns/{id}") => {
                let nothing = "0190b1a0-0000-7000-8000-000000000000";
                let plan = json!({ "texts": [], "audience": { "filter": {} }, "senders": [] });
                let campaign = json!({ "name": "Prueba", "kind": "cobranza", "plan": plan });
                Ok((template.replace("{id}", nothing), Body::Json(campaign)))
            }
            ("post", "/api/v1/campaigns/{id}/schedule" | "/api/v1/campaigns/{id}/resolve") => {
                let nothing = "0190b1a0-0000-7000-8000-000000000000";
                let body = match template.ends_with("schedule") {
                    true => json!({ "start_at": null }),
                    false => json!({ "action": "give_up", "dry_run": true }),
                };
                Ok((template.replace("{id}", nothing), Body::Json(body)))
            }
            ("post", "/api/v1/audiences") => Ok((template.to_owned(), Body::Form)),
            (_, path) if path.starts_with("/api/v1/audiences/{id}") => {
                plain(&path.replace("{id}", "00000000-0000-0000-0000-000000000000"))
            }
            ("post", "/api/v1/messages") => {
                Ok((template.to_owned(), Body::Json(json!({ "to": "123", "text": "Hola" }))))
            }
            ("get", "/api/v1/messages") => plain(&format!("{template}?phone=6121004799")),
            ("post", "/api/v1/campaigns/{id}/test") => {
                let nothing = "0190b1a0-0000-7000-8000-000000000000";
                Ok((template.replace("{id}", nothing), Body::Json(json!({ "phones": ["6121004799"] }))))
            }
            ("post", "/api/v1/sms/prices") => {
                let price = json!({ "provider": "telnyx", "price_micros": 1, "currency": "pesos" });
                Ok((template.to_owned(), Body::Json(price)))
            }
            ("put", "/api/v1/sms/senders/{address}") => {
                let sender = json!({ "provider": "telnyx", "kind": "long_code", "per_second": 1 });
                Ok((template.replace("{address}", "+525550001111"), Body::Json(sender)))
            }
            (_, "/api/v1/segments/{id}") => plain(&template.replace("{id}", &self.fresh_segment().await?)),
            ("post" | "put", path) if path.starts_with("/api/v1/etl/schedules") => {
                let path = path.replace("{id}", &self.fresh_sync().await?);
                Ok((path, Body::Json(sync_schedule())))
            }
            (_, "/api/v1/etl/schedules/{id}") => plain(&template.replace("{id}", &self.fresh_sync().await?)),
            ("post", "/api/v1/etl/backfill") => {
                let days = json!({ "tabla": "documentos_venta", "desde": "2026-01-01" });
                Ok((template.to_owned(), Body::Json(days)))
            }
            ("post", "/api/v1/etl/quarantine/redrive") => {
                Ok((template.to_owned(), Body::Json(json!({ "flujo": "bigquery.pagos" }))))
            }
            ("post", "/api/v1/etl/reset") => {
                Ok((template.to_owned(), Body::Json(json!({ "tabla": "stock" }))))
            }
            (_, path) if path.ends_with("/replay") || path.ends_with("/discard") => {
                Ok((path.to_owned(), Body::Json(letters)))
            }
            (_, path) => {
                let nothing = "0190b1a0-0000-7000-8000-000000000000";
                let path = path.replace("{task_id}", &self.task).replace("{id}", nothing);
                let path = path.replace("{name}", "vacia").replace("{bodega_id}", "PRINCIPAL");
                let path = path.replace("{table}", "clientes").replace("{entity}", "clients");
                plain(&path.replace("{secret}", "guessed").replace("{token}", "guessed"))
            }
        }
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

/// A schedule that begins nothing.
fn sync_schedule() -> Value {
    json!({ "cron": "0 7 * * *", "fuente": "bsale", "modo": "daily", "activo": false })
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

/// A product of the owner's, as the API takes it.
fn product(id: &str, codigo: &str) -> Value {
    json!({
        "id": id, "codigo": codigo, "nombre": "Uno", "categoria": "VITAMINAS", "precioUnitario": 12.5,
        "requisitosAlmacenamiento": "Lugar seco", "certificadoSanitario": "INVIMA 1", "tiempoEntregaDias": 3,
        "proveedorId": OWNER,
    })
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
