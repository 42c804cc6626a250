//! Who may do what: every operation that the merged OpenAPI document knows, by every kind of caller, through the
//! gateway and, where a service serves it, at the service's own port. An operation that the table here lacks
//! fails the test.

use anyhow::{Context, Result, bail, ensure};
use e2e::Scene;
use reqwest::Method;
use serde_json::{Value, json};
use stack::platform::{Campaign, Client, Platform, Publisher, Settled, UPLOAD, Upload, answer, task_id};
use stack::process::Running;
use stack::workbook::Spec;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Whose data is at stake.
const OWNER: &str = "PROV-OWNER";
/// Somebody else.
const STRANGER: &str = "PROV-STRANGER";
/// Stands in everything of the owner's; never in an answer to somebody who may not see it.
const SECRET: &str = "SECRETO";

/// Kinds of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Garbage,
    /// The claims of one token under the signature of another.
    Forged,
    Expired,
    OtherAudience,
    RevokedKey,
    Admin,
    Operator,
    Owner,
    Stranger,
    Viewer,
    /// A viewer who is bound to the other supplier.
    StrangersViewer,
    /// The owner's API keys: with all scopes, with `catalog:read`, and with none that matters here.
    Key,
    ReadKey,
    OtherKey,
}

use Who::*;

const ALL: [Who; 15] = [
    Nobody,
    Garbage,
    Forged,
    Expired,
    OtherAudience,
    RevokedKey,
    Admin,
    Operator,
    Owner,
    Stranger,
    Viewer,
    StrangersViewer,
    Key,
    ReadKey,
    OtherKey,
];

impl Who {
    fn is_known(self) -> bool {
        !matches!(self, Nobody | Garbage | Forged | Expired | OtherAudience | RevokedKey)
    }

    fn is_key(self) -> bool {
        matches!(self, RevokedKey | Key | ReadKey | OtherKey)
    }
}

/// Who gets in; the number is the answer to those who do.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Whoever asks, with whatever credential.
    Open(u16),
    /// Whoever is known.
    Known(u16),
    /// Whoever is known and may read the catalog.
    Scoped(u16),
    /// Whoever is known and limited to no scopes.
    Unlimited(u16),
    /// Users, not their keys.
    People(u16),
    Admins(u16),
    Operators(u16),
    /// One thing of the owner's, which for strangers does not exist.
    Reads(u16),
    /// The list of the owner's things.
    Lists(u16),
    /// Something new in the owner's name.
    Writes(u16),
    /// One thing of the owner's that changes, which for strangers does not exist.
    Changes(u16),
    /// A key of the owner's.
    OwnKey(u16),
    /// Contacts, which are nobody's in particular: not for who is bound to one supplier, nor for keys of one.
    Contacts(u16),
    /// Reports, which are about everybody's campaigns: not for who is bound to one supplier.
    Reports(u16),
}

impl Rule {
    fn expected(self, who: Who) -> u16 {
        let allow = |allowed: bool, yes: u16, no: u16| if allowed { yes } else { no };
        if let Self::Open(ok) = self {
            return ok;
        }
        if !who.is_known() {
            return 401;
        }
        match self {
            Self::Open(ok) | Self::Known(ok) => ok,
            Self::Scoped(ok) => allow(who != OtherKey, ok, 403),
            Self::Unlimited(ok) => allow(!matches!(who, ReadKey | OtherKey), ok, 403),
            Self::People(ok) => allow(!who.is_key(), ok, 403),
            Self::Admins(ok) => allow(who == Admin, ok, 403),
            Self::Operators(ok) => allow(matches!(who, Admin | Operator), ok, 403),
            Self::Reads(ok) => match who {
                OtherKey => 403,
                Stranger | StrangersViewer => 404,
                _ => ok,
            },
            Self::Lists(ok) => allow(!matches!(who, OtherKey | Stranger | StrangersViewer), ok, 403),
            Self::Writes(ok) => allow(matches!(who, Admin | Operator | Owner | Key), ok, 403),
            Self::Changes(ok) => match who {
                Admin | Operator | Owner | Key => ok,
                Stranger => 404,
                _ => 403,
            },
            Self::Contacts(ok) | Self::Reports(ok) => {
                allow(matches!(who, Admin | Operator | Viewer), ok, 403)
            }
            Self::OwnKey(ok) => match who {
                Key | ReadKey | OtherKey => 403,
                Admin | Owner => ok,
                _ => 404,
            },
        }
    }
}

/// The one table.
const RULES: &[(&str, &str, Rule)] = &[
    ("post", "/api/v1/auth/login", Rule::Open(200)),
    ("post", "/api/v1/auth/refresh", Rule::Open(200)),
    ("post", "/api/v1/auth/logout", Rule::Open(204)),
    ("get", "/.well-known/jwks.json", Rule::Open(200)),
    ("get", "/api/v1/auth/me", Rule::Known(200)),
    // The new password is too short: who gets as far as 422 got in.
    ("post", "/api/v1/auth/password", Rule::People(422)),
    ("get", "/api/v1/stream", Rule::Unlimited(200)),
    ("get", "/api/v1/users", Rule::Admins(200)),
    ("post", "/api/v1/users", Rule::Admins(201)),
    ("get", "/api/v1/users/{id}", Rule::Admins(200)),
    ("patch", "/api/v1/users/{id}", Rule::Admins(200)),
    ("delete", "/api/v1/users/{id}", Rule::Admins(204)),
    ("post", "/api/v1/users/{id}/disable", Rule::Admins(200)),
    ("post", "/api/v1/users/{id}/enable", Rule::Admins(200)),
    ("get", "/api/v1/audit", Rule::Admins(200)),
    ("get", "/api/v1/api-keys", Rule::People(200)),
    ("post", "/api/v1/api-keys", Rule::People(201)),
    ("delete", "/api/v1/api-keys/{id}", Rule::OwnKey(204)),
    ("post", "/api/v1/catalog/items/bulk-upload", Rule::Writes(202)),
    ("get", "/api/v1/catalog/bulk-upload/status/{task_id}", Rule::Reads(200)),
    ("get", "/api/v1/catalog/bulk-upload", Rule::Lists(200)),
    // The task is completed, and no dry run: who learns that got in.
    ("post", "/api/v1/catalog/bulk-upload/{task_id}/cancel", Rule::Changes(409)),
    ("post", "/api/v1/catalog/bulk-upload/{task_id}/retry", Rule::Changes(409)),
    ("post", "/api/v1/catalog/bulk-upload/{task_id}/apply", Rule::Changes(409)),
    ("post", "/api/v1/catalog/bulk-upload/{task_id}/undo", Rule::Changes(202)),
    ("get", "/api/v1/catalog/bulk-upload/{task_id}/original", Rule::Reads(200)),
    ("get", "/api/v1/catalog/bulk-upload/{task_id}/errors.csv", Rule::Reads(200)),
    ("get", "/api/v1/catalog/bulk-upload/{task_id}/changes.csv", Rule::Reads(200)),
    ("get", "/api/v1/catalog/bulk-upload/{task_id}/annotated.xlsx", Rule::Reads(200)),
    ("get", "/api/v1/catalog/templates/{name}.xlsx", Rule::Scoped(200)),
    ("get", "/api/v1/catalog/items", Rule::Lists(200)),
    ("post", "/api/v1/catalog/items", Rule::Writes(201)),
    ("get", "/api/v1/catalog/items/{id}", Rule::Reads(200)),
    ("put", "/api/v1/catalog/items/{id}", Rule::Changes(200)),
    ("delete", "/api/v1/catalog/items/{id}", Rule::Changes(204)),
    ("get", "/api/v1/catalog/items/{id}/inventario", Rule::Reads(200)),
    ("get", "/api/v1/inventory/bodega/{bodega_id}/productos", Rule::Scoped(200)),
    ("get", "/api/v1/admin/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/jobs", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/queues", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/dead-letters", Rule::Operators(200)),
    ("get", "/api/v1/admin/catalog-upload/dead-letters/audit", Rule::Operators(200)),
    // There is none of that id: who learns that got in.
    ("get", "/api/v1/admin/catalog-upload/dead-letters/{id}", Rule::Operators(404)),
    ("post", "/api/v1/admin/catalog-upload/dead-letters/replay", Rule::Operators(200)),
    ("post", "/api/v1/admin/catalog-upload/dead-letters/discard", Rule::Operators(200)),
    ("get", "/reporte", Rule::Operators(200)),
    ("get", "/reporte/status/{id_campana}", Rule::Reports(200)),
    ("get", "/campania/list", Rule::Reports(200)),
    ("get", "/campania/fechas", Rule::Reports(200)),
    ("post", "/api/v1/reports", Rule::Operators(202)),
    ("get", "/api/v1/reports", Rule::Reports(200)),
    ("get", "/api/v1/reports/{id}", Rule::Reports(200)),
    ("get", "/api/v1/reports/{id}/files", Rule::Reports(200)),
    ("get", "/api/v1/reports/{id}/manifest", Rule::Reports(200)),
    // The run is completed: who learns that got in.
    ("post", "/api/v1/reports/{id}/cancel", Rule::Operators(409)),
    ("post", "/api/v1/reports/{id}/retry", Rule::Operators(409)),
    ("get", "/api/v1/reports/{id}/download", Rule::Reports(200)),
    ("get", "/api/v1/reports/{id}/files/{id_campana}/download", Rule::Reports(200)),
    ("get", "/api/v1/reports/schedules", Rule::Reports(200)),
    ("post", "/api/v1/reports/schedules", Rule::Operators(201)),
    ("get", "/api/v1/reports/schedules/{id}", Rule::Reports(200)),
    ("put", "/api/v1/reports/schedules/{id}", Rule::Operators(200)),
    ("delete", "/api/v1/reports/schedules/{id}", Rule::Operators(204)),
    ("get", "/api/v1/admin/report/jobs", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/queues", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/dead-letters", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/dead-letters/audit", Rule::Operators(200)),
    ("get", "/api/v1/admin/report/dead-letters/{id}", Rule::Operators(404)),
    ("post", "/api/v1/admin/report/dead-letters/replay", Rule::Operators(200)),
    ("post", "/api/v1/admin/report/dead-letters/discard", Rule::Operators(200)),
    ("get", "/api/v1/contacts", Rule::Contacts(200)),
    ("get", "/api/v1/contacts/stats", Rule::Contacts(200)),
    // An object that is none of theirs, an import that does not exist: who learns that got in.
    ("post", "/api/v1/contacts/imports", Rule::Admins(400)),
    ("get", "/api/v1/contacts/imports", Rule::Operators(200)),
    ("get", "/api/v1/contacts/imports/{id}", Rule::Operators(404)),
    ("get", "/api/v1/contacts/imports/{id}/report", Rule::Operators(404)),
    ("post", "/api/v1/contacts/imports/{id}/cancel", Rule::Admins(404)),
    ("post", "/api/v1/contacts/imports/{id}/rollback", Rule::Admins(404)),
    ("get", "/api/v1/contacts/{id}", Rule::Contacts(200)),
    ("patch", "/api/v1/contacts/{id}", Rule::Operators(200)),
    ("post", "/api/v1/contacts/{id}/opt-out", Rule::Operators(200)),
    ("post", "/api/v1/contacts/{id}/opt-in", Rule::Operators(200)),
    // A form without a file: who learns that got in.
    ("post", "/api/v1/suppressions/imports", Rule::Operators(400)),
    // Nothing is known of that phone: who learns that got in.
    ("get", "/api/v1/suppressions/{phone}", Rule::Contacts(404)),
    ("delete", "/api/v1/suppressions/{phone}", Rule::Operators(404)),
    ("post", "/api/v1/segments/preview", Rule::Operators(200)),
    ("post", "/api/v1/segments", Rule::Operators(201)),
    ("get", "/api/v1/segments", Rule::Contacts(200)),
    ("get", "/api/v1/segments/{id}", Rule::Contacts(200)),
    ("put", "/api/v1/segments/{id}", Rule::Operators(200)),
    ("delete", "/api/v1/segments/{id}", Rule::Operators(204)),
    ("get", "/api/v1/admin/sms-dispatch/jobs", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/queues", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/dead-letters", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/dead-letters/audit", Rule::Operators(200)),
    ("get", "/api/v1/admin/sms-dispatch/dead-letters/{id}", Rule::Operators(404)),
    ("post", "/api/v1/admin/sms-dispatch/dead-letters/replay", Rule::Operators(200)),
    ("post", "/api/v1/admin/sms-dispatch/dead-letters/discard", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/jobs", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/workers", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/queues", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/dead-letters", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/dead-letters/audit", Rule::Operators(200)),
    ("get", "/api/v1/admin/gateway/dead-letters/{id}", Rule::Operators(404)),
    ("post", "/api/v1/admin/gateway/dead-letters/replay", Rule::Operators(200)),
    ("post", "/api/v1/admin/gateway/dead-letters/discard", Rule::Operators(200)),
];

/// What a request carries.
enum Body {
    Empty,
    Json(Value),
    Workbook,
    /// A form without a file.
    Form,
}

struct World {
    scene: Scene,
    admin: Client,
    owner: Client,
    callers: Vec<(Who, Client)>,
    task: String,
    /// A task that may be taken back.
    undone: String,
    product: String,
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
    async fn build() -> Result<Self> {
        let scene = Scene::start("access", |options| options.report(1).sms()).await?;
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
            (_, path) if path.starts_with("/api/v1/contacts/imports/{id}") => {
                plain(&path.replace("{id}", "00000000-0000-0000-0000-000000000000"))
            }
            ("patch", "/api/v1/contacts/{id}") => {
                let path = template.replace("{id}", &self.contact.to_string());
                Ok((path, Body::Json(json!({ "city": stack::random_hex(3) }))))
            }
            (_, path) if path.starts_with("/api/v1/contacts/{id}") => {
                plain(&path.replace("{id}", &self.contact.to_string()))
            }
            ("post", "/api/v1/segments/preview") => Ok((template.to_owned(), Body::Json(json!({})))),
            ("post" | "put", path) if path.starts_with("/api/v1/segments") => {
                let path = path.replace("{id}", &self.fresh_segment().await?);
                Ok((path, Body::Json(json!({ "name": stack::random_hex(6) }))))
            }
            (_, "/api/v1/segments/{id}") => plain(&template.replace("{id}", &self.fresh_segment().await?)),
            (_, path) if path.ends_with("/replay") || path.ends_with("/discard") => {
                Ok((path.to_owned(), Body::Json(letters)))
            }
            (_, path) => {
                let nothing = "0190b1a0-0000-7000-8000-000000000000";
                let path = path.replace("{task_id}", &self.task).replace("{id}", nothing);
                plain(&path.replace("{name}", "vacia").replace("{bodega_id}", "PRINCIPAL"))
            }
        }
    }

    /// The answer's status, and its body where that ends.
    async fn call(&self, client: &Client, method: &str, template: &str) -> Result<(u16, String)> {
        let (path, body) = self.target(method, template).await?;
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
    let catalog = world.scene.platform.api_url();
    let report = world.scene.platform.report_url().context("report runs")?;
    let sms = world.scene.platform.sms_url().context("sms-dispatch runs")?;
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
    ];
    let operations = operations(&world.admin).await?;
    let of_services = operations.iter().filter(|(_, path)| path.starts_with("/api/v1/catalog")).count();
    ensure!(of_services >= 5, "the services' documents are merged into the gateway's: {operations:?}");

    let (mut wrong, mut calls) = (Vec::new(), 0);
    for (method, path) in &operations {
        let Some((_, _, rule)) = RULES.iter().find(|(of, at, _)| of == method && at == path) else {
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
                let (status, body) = world.call(&client, method, path).await?;
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

#[tokio::test]
async fn without_a_filter_a_supplier_sees_its_own_only() -> Result<()> {
    let scene = Scene::start("lists", |options| options).await?;
    let (owner, stranger) = (scene.platform.supplier(OWNER).await?, scene.platform.supplier(STRANGER).await?);
    let (file, _) = scene.workbook(&Spec::new(1, SECRET, 5))?;
    let task = task_id(&owner.upload(&Upload::new(&file, OWNER)).await?)?;
    owner.finished(&task, Duration::from_secs(60)).await?;
    for path in ["/api/v1/catalog/items", "/api/v1/catalog/bulk-upload", "/api/v1/catalog/items?q=producto"] {
        // A search finds what was imported a moment later.
        stack::wait::until(path, Duration::from_secs(20), async || {
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
