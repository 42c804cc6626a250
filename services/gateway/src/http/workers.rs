//! Who works on what, over all services.

use actix_web::{HttpRequest, HttpResponse, web};
use chassis::{Problem, auth::Role};
use futures::future::join_all;
use serde::Serialize;
use serde_json::Value;
use tracing::warn;

use super::access;
use crate::App;

/// The live workers of all services.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Workers {
    /// As each service lists them.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Value>,
    /// Services that did not answer: theirs are missing.
    unavailable: Vec<&'static str>,
}

/// The workers of all services that are alive, and what each works on.
#[utoipa::path(
    get, path = "/api/v1/admin/workers", tag = "admin",
    responses(
        (status = 200, description = "Los procesos vivos de todos los servicios", body = Workers),
        (status = 403, description = "Solo para administradores y operadores"),
    ),
    security(("bearer" = [])),
)]
pub async fn workers(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let token = access::authorise(&request, &[Role::Admin, Role::Operator])?;
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
    for (name, answer) in answers {
        match answer.map(items) {
            Ok(Some(items)) => all.items.extend(items),
            Ok(None) => all.unavailable.push(name),
            Err(error) => {
                warn!(backend = name, %error, "could not list its workers");
                all.unavailable.push(name);
            }
        }
    }
    Ok(HttpResponse::Ok().json(all))
}

/// The list in a service's answer: the answer itself, or its member `items`.
fn items(answer: Value) -> Option<Vec<Value>> {
    match answer {
        Value::Array(items) => Some(items),
        Value::Object(mut members) => members.remove("items")?.as_array().cloned(),
        _ => None,
    }
}
