//! What each operation is called with: paths, and bodies. Each call has a target of its own, so that no call spoils the next one's.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use stack::platform::{Client, UPLOAD};

use super::{World, api_key, report_day};
use crate::OWNER;

/// What a request carries.
pub enum Body {
    Empty,
    Json(Value),
    Workbook,
    /// A form without a file.
    Form,
}

/// The path and body of one call.
type Target = (String, Body);

/// The id of what is not there.
const NOTHING: &str = "0190b1a0-0000-7000-8000-000000000000";

fn plain(path: impl Into<String>) -> Target {
    (path.into(), Body::Empty)
}

fn sending(path: impl Into<String>, body: Value) -> Target {
    (path.into(), Body::Json(body))
}

impl World {
    /// The path and body of one call.
    pub(super) async fn target(&self, method: &str, template: &str) -> Result<Target> {
        if let Some(target) = self.of_identity(method, template).await? {
            return Ok(target);
        }
        if let Some(target) = self.of_catalog(method, template).await? {
            return Ok(target);
        }
        if let Some(target) = self.of_reports(method, template).await? {
            return Ok(target);
        }
        if let Some(target) = self.of_contacts(method, template).await? {
            return Ok(target);
        }
        if let Some(target) = of_campaigns(method, template) {
            return Ok(target);
        }
        if let Some(target) = self.of_etl(method, template).await? {
            return Ok(target);
        }
        if template.ends_with("/replay") || template.ends_with("/discard") {
            return Ok(sending(template, json!({ "filter": {}, "dry_run": true })));
        }
        let path = template.replace("{task_id}", &self.task).replace("{id}", NOTHING);
        let path = path.replace("{name}", "vacia").replace("{bodega_id}", "PRINCIPAL");
        let path = path.replace("{table}", "clientes").replace("{entity}", "clients");
        Ok(plain(path.replace("{secret}", "guessed").replace("{token}", "guessed")))
    }

    async fn of_identity(&self, method: &str, template: &str) -> Result<Option<Target>> {
        Ok(Some(match (method, template) {
            ("post", "/api/v1/auth/login") => {
                let (_, name, password) = self.fresh_user().await?;
                sending(template, json!({ "username": name, "password": password }))
            }
            ("post", "/api/v1/auth/refresh" | "/api/v1/auth/logout") => {
                let token = self.fresh_refresh_token().await?;
                sending(template, json!({ "refresh_token": token }))
            }
            ("post", "/api/v1/auth/password") => {
                sending(template, json!({ "current_password": "whatever it is", "new_password": "corta" }))
            }
            ("post", "/api/v1/users") => {
                let (name, password) = (format!("n{}", stack::random_hex(6)), stack::random_hex(10));
                sending(template, json!({ "username": name, "password": password, "role": "viewer" }))
            }
            ("patch", "/api/v1/users/{id}") => {
                let (id, _, _) = self.fresh_user().await?;
                sending(format!("/api/v1/users/{id}"), json!({ "name": "Otro nombre" }))
            }
            (_, path) if path.starts_with("/api/v1/users/{id}") => {
                let (id, _, _) = self.fresh_user().await?;
                plain(path.replace("{id}", &id))
            }
            ("post", "/api/v1/api-keys") => sending(template, json!({ "name": "una clave" })),
            ("delete", "/api/v1/api-keys/{id}") => {
                plain(format!("/api/v1/api-keys/{}", api_key(&self.owner, &[]).await?.0))
            }
            _ => return Ok(None),
        }))
    }

    async fn of_catalog(&self, method: &str, template: &str) -> Result<Option<Target>> {
        Ok(Some(match (method, template) {
            ("post", UPLOAD) => (format!("{UPLOAD}?proveedor_id={OWNER}"), Body::Workbook),
            ("get", "/api/v1/catalog/bulk-upload") => plain(format!("{template}?proveedor_id={OWNER}")),
            ("get", "/api/v1/catalog/items") => plain(format!("{template}?proveedorId={OWNER}")),
            ("get", path) if path.starts_with("/api/v1/catalog/items/{id}") => {
                plain(path.replace("{id}", &self.product))
            }
            ("post", "/api/v1/catalog/items") => {
                let id = format!("N-{}", stack::random_hex(6));
                sending(template, product(&id, &id))
            }
            ("put", "/api/v1/catalog/items/{id}") => {
                let id = self.fresh_product().await?;
                sending(template.replace("{id}", &id), product(&id, &id))
            }
            ("delete", "/api/v1/catalog/items/{id}") => {
                plain(template.replace("{id}", &self.fresh_product().await?))
            }
            ("post", "/api/v1/catalog/bulk-upload/{task_id}/undo") => {
                plain(template.replace("{task_id}", &self.undone))
            }
            _ => return Ok(None),
        }))
    }

    async fn of_reports(&self, method: &str, template: &str) -> Result<Option<Target>> {
        Ok(Some(match (method, template) {
            ("get", "/reporte") => plain(format!("{template}?fecha={}", report_day())),
            ("post", "/api/v1/reports") => sending(template, json!({ "fecha": report_day() })),
            ("post" | "put", path) if path.starts_with("/api/v1/reports/schedules") => {
                let path = path.replace("{id}", &self.fresh_schedule().await?);
                sending(path, json!({ "cron": "0 7 * * *", "activo": false }))
            }
            (_, "/api/v1/reports/schedules/{id}") => {
                plain(template.replace("{id}", &self.fresh_schedule().await?))
            }
            (_, path) if path.starts_with("/api/v1/reports/") || path.starts_with("/reporte/") => {
                plain(path.replace("{id}", &self.report).replace("{id_campana}", &self.campaign))
            }
            _ => return Ok(None),
        }))
    }

    async fn of_contacts(&self, method: &str, template: &str) -> Result<Option<Target>> {
        Ok(Some(match (method, template) {
            ("post", "/api/v1/suppressions/imports") => (format!("{template}?reason=manual"), Body::Form),
            (_, "/api/v1/suppressions/{phone}") => plain("/api/v1/suppressions/6121004799"),
            ("post", "/api/v1/contacts/imports") => {
                sending(template, json!({ "object_key": "uploads/other" }))
            }
            ("post", "/api/v1/contacts/validations") => sending(template, json!({ "budget": 1 })),
            (_, path)
                if path.starts_with("/api/v1/contacts/imports/{id}")
                    || path.starts_with("/api/v1/contacts/validations/{id}") =>
            {
                plain(path.replace("{id}", "00000000-0000-0000-0000-000000000000"))
            }
            ("patch", "/api/v1/contacts/{id}") => {
                let path = template.replace("{id}", &self.contact.to_string());
                sending(path, json!({ "city": stack::random_hex(3) }))
            }
            (_, path) if path.starts_with("/api/v1/contacts/{id}") => {
                plain(path.replace("{id}", &self.contact.to_string()))
            }
            ("post", "/api/v1/segments/preview") => sending(template, json!({})),
            ("post" | "put", path) if path.starts_with("/api/v1/segments") => {
                let path = path.replace("{id}", &self.fresh_segment().await?);
                sending(path, json!({ "name": stack::random_hex(6) }))
            }
            (_, "/api/v1/segments/{id}") => plain(template.replace("{id}", &self.fresh_segment().await?)),
            _ => return Ok(None),
        }))
    }

    async fn of_etl(&self, method: &str, template: &str) -> Result<Option<Target>> {
        Ok(Some(match (method, template) {
            ("post", "/api/v1/dashboard" | "/api/v1/evolution") => sending(template, json!({})),
            ("post" | "put", path) if path.starts_with("/api/v1/etl/schedules") => {
                sending(path.replace("{id}", &self.fresh_sync().await?), sync_schedule())
            }
            (_, "/api/v1/etl/schedules/{id}") => plain(template.replace("{id}", &self.fresh_sync().await?)),
            ("post", "/api/v1/etl/backfill") => {
                sending(template, json!({ "tabla": "documentos_venta", "desde": "2026-01-01" }))
            }
            ("post", "/api/v1/etl/quarantine/redrive") => {
                sending(template, json!({ "flujo": "bigquery.pagos" }))
            }
            ("post", "/api/v1/etl/reset") => sending(template, json!({ "tabla": "stock" })),
            _ => return Ok(None),
        }))
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
}

/// Of campaigns, and what they need: nothing of them is there.
fn of_campaigns(method: &str, template: &str) -> Option<Target> {
    Some(match (method, template) {
        ("post" | "put", "/api/v1/campaigns" | "/api/v1/campaigns/{id}") => {
            let plan = json!({ "texts": [], "audience": { "filter": {} }, "senders": [] });
            let campaign = json!({ "name": "Prueba", "kind": "cobranza", "plan": plan });
            sending(template.replace("{id}", NOTHING), campaign)
        }
        ("post", "/api/v1/campaigns/{id}/schedule") => {
            sending(template.replace("{id}", NOTHING), json!({ "start_at": null }))
        }
        ("post", "/api/v1/campaigns/{id}/resolve") => {
            sending(template.replace("{id}", NOTHING), json!({ "action": "give_up", "dry_run": true }))
        }
        ("post", "/api/v1/campaigns/{id}/test") => {
            sending(template.replace("{id}", NOTHING), json!({ "phones": ["6121004799"] }))
        }
        ("post", "/api/v1/audiences") => (template.to_owned(), Body::Form),
        (_, path) if path.starts_with("/api/v1/audiences/{id}") => {
            plain(path.replace("{id}", "00000000-0000-0000-0000-000000000000"))
        }
        ("post", "/api/v1/messages") => sending(template, json!({ "to": "123", "text": "Hola" })),
        ("get", "/api/v1/messages") => plain(format!("{template}?phone=6121004799")),
        ("post", "/api/v1/sms/prices") => {
            sending(template, json!({ "provider": "telnyx", "price_micros": 1, "currency": "pesos" }))
        }
        ("put", "/api/v1/sms/senders/{address}") => {
            let sender = json!({ "provider": "telnyx", "kind": "long_code", "per_second": 1 });
            sending(template.replace("{address}", "+525550001111"), sender)
        }
        _ => return None,
    })
}

/// A schedule that begins nothing.
fn sync_schedule() -> Value {
    json!({ "cron": "0 7 * * *", "fuente": "bsale", "modo": "daily", "activo": false })
}

/// A product of the owner's, as the API takes it.
fn product(id: &str, codigo: &str) -> Value {
    json!({
        "id": id, "codigo": codigo, "nombre": "Uno", "categoria": "VITAMINAS", "precioUnitario": 12.5,
        "requisitosAlmacenamiento": "Lugar seco", "certificadoSanitario": "INVIMA 1", "tiempoEntregaDias": 3,
        "proveedorId": OWNER,
    })
}
