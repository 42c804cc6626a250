//! Who works on what, over all services.

use actix_web::{HttpRequest, HttpResponse, web};
use chassis::{ApiResult, auth::Role};
use futures::future::join_all;
use serde::Serialize;
use serde_json::Value;
use tracing::warn;

use super::access;
use crate::{App, SERVICE};

/// Los procesos vivos de todos los servicios.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Workers {
    /// Como los da cada servicio.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
    /// Servicios que no respondieron: faltan los suyos.
    unavailable: Vec<&'static str>,
}

/// The workers of all services that are alive, and what each works on.
#[utoipa::path(
    operation_id = "workers_list_all", summary = "Listar los procesos vivos de todos los servicios",
    description = "Y en qué trabaja cada uno.",
    get, path = "/api/v1/admin/workers", tag = "admin",
    responses(
        (status = 200, description = "Los procesos vivos de todos los servicios", body = Workers),
        (status = 403, description = "Solo para administradores y operadores"),
    ),
)]
pub async fn workers(request: HttpRequest, app: web::Data<App>) -> ApiResult {
    let (caller, token) = access::authorise(&request, &[Role::Admin, Role::Operator])?;
    caller.require_scope("admin:read")?;
    let answers = join_all(app.backends.all().map(|target| {
        let (app, token) = (&app, &token);
        async move {
            let name = target.backend.name();
            let path = format!("/api/v1/admin/{name}/workers");
            let answer = app.backends.json(target, &path, Some(token)).await;
            (name, answer)
        }
    }))
    .await;
    let mut all = Workers { items: Vec::new(), unavailable: Vec::new() };
    match jobs::workers::list(&app.database.pool).await {
        Ok(own) => all.items.extend(own.into_iter().map(|worker| serde_json::json!(worker))),
        Err(error) => {
            warn!(%error, "could not list the gateway's own workers");
            all.unavailable.push(SERVICE);
        }
    }
    for (name, answer) in answers {
        match answer.map(|answer| items(name, answer)) {
            Ok(Some(items)) => all.items.extend(items),
            Ok(None) => {
                warn!(backend = name, "its list of workers is none");
                all.unavailable.push(name);
            }
            Err(error) => {
                warn!(backend = name, %error, "could not list its workers");
                all.unavailable.push(name);
            }
        }
    }
    Ok(HttpResponse::Ok().json(all))
}

/// A service's list, each row with the service's name.
fn items(service: &str, answer: Value) -> Option<Vec<Value>> {
    let Value::Array(mut items) = answer else { return None };
    for item in &mut items {
        item.as_object_mut()?.insert("service".to_owned(), service.into());
    }
    Some(items)
}
