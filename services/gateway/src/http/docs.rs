//! The documentation: Swagger UI over one OpenAPI document, merged from the gateway's own and those of the
//! services behind it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{self, Bytes},
};
use chassis::{
    ApiResult, Problem,
    http::{Document, in_pieces},
};
use futures::future::join_all;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tracing::debug;

use super::routes::{Backend, ROUTES, under};
use crate::{
    App,
    identity::{CSRF_HEADER, SESSION_COOKIE},
};

/// How long a merged document is good for.
const FRESH: Duration = Duration::from_secs(60);
/// How long one is that lacks a service which did not answer.
const INCOMPLETE: Duration = Duration::from_secs(5);

/// Swagger UI is served with the gateway and talks to it alone; its styles are inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// The last document each service was seen with.
#[derive(Default)]
pub struct Documents(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Until when nobody is asked again.
    fresh_until: Option<Instant>,
    services: BTreeMap<Backend, Value>,
    /// Of what was known then.
    merged: Option<Document>,
}

/// `/docs/…`: Swagger UI.
pub async fn page(path: web::Path<String>) -> ApiResult {
    let config = utoipa_swagger_ui::Config::from("/api-docs/openapi.json");
    let file = utoipa_swagger_ui::serve(&path, Arc::new(config))
        .map_err(|error| Problem::internal(anyhow::anyhow!("{error}")))?
        .ok_or_else(|| Problem::of(StatusCode::NOT_FOUND))?;
    let mut response = HttpResponse::Ok();
    if file.gzpipped {
        response.insert_header((header::CONTENT_ENCODING, "gzip"));
    }
    Ok(response
        .content_type(file.content_type)
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .body(in_pieces(match file.bytes {
            // Part of the program: not copied for each request.
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        })))
}

/// `/docs`: its pages name their parts relative to `/docs/`.
pub async fn redirect() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

/// `/api-docs/openapi.json`. A service that is down stays as it was last seen.
pub async fn document(request: HttpRequest, app: web::Data<App>) -> ApiResult {
    // Held while asking, so that one asks for all.
    let mut known = app.documents.0.lock().await;
    if known.fresh_until.is_none_or(|until| until <= Instant::now()) {
        let answers = join_all(app.backends.all().map(|target| async {
            (target.backend, app.backends.json(target, "/api-docs/openapi.json", None).await)
        }))
        .await;
        let complete = answers.iter().all(|(_, answer)| answer.is_ok());
        for (backend, answer) in answers {
            match answer {
                Ok(document) => {
                    if known.services.insert(backend, document.clone()).as_ref() != Some(&document) {
                        known.merged = None;
                    }
                }
                Err(error) => debug!(backend = backend.name(), %error, "no document of this service"),
            }
        }
        // While a service is down, not each request asks all others as well.
        known.fresh_until = Some(Instant::now() + if complete { FRESH } else { INCOMPLETE });
    }
    let document = match known.merged.clone() {
        Some(document) => document,
        None => merged(&known.services)?,
    };
    known.merged = Some(document.clone());
    Ok(document.respond(&request))
}

/// One document of the gateway's own and those of the services.
fn merged(services: &BTreeMap<Backend, Value>) -> Result<Document, Problem> {
    let own: Value = serde_json::from_slice(super::document().bytes()).map_err(Problem::internal)?;
    let mut merged = services.iter().fold(own, |merged, (backend, service)| merge(merged, *backend, service));
    through_the_gateway(&mut merged);
    Ok(Document::new(serde_json::to_vec(&merged).map_err(Problem::internal)?))
}

/// The problems that a gateway adds: status, name, whether only of what it passes on, what it says.
const PROBLEMS: &[(&str, &str, bool, &str)] = &[
    ("408", "PeticionLenta", true, "El cuerpo dejó de llegar"),
    ("413", "DemasiadoGrande", true, "El cuerpo supera el máximo"),
    ("429", "DemasiadasPeticiones", false, "Demasiadas peticiones; Retry-After dice cuándo volver"),
    ("502", "ServicioCortado", true, "El servicio cortó la conexión antes de responder"),
    ("504", "ServicioSinRespuesta", true, "El servicio no respondió a tiempo"),
];

/// Methods that change nothing, and need no CSRF token with a cookie unless their operation says so by [`NEEDS_CSRF`].
const SAFE: &[&str] = &["get", "head", "options"];

/// The extension of a GET that starts something, or uses something up: with a cookie it needs the CSRF token as well.
const NEEDS_CSRF: &str = "x-csrf";

/// Adds to every operation what only callers of the gateway meet: three kinds of credentials, and its problems.
fn through_the_gateway(document: &mut Value) {
    for (path, item) in object(document, "paths") {
        let is_passed_on = ROUTES.iter().any(|route| under(path, route.prefix));
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let needs_csrf = !SAFE.contains(&method.as_str()) || operation[NEEDS_CSRF] == json!(true);
            add_credentials(operation, needs_csrf);
            let has_body = operation.get("requestBody").is_some();
            let responses = object(operation, "responses");
            for (status, name, only_passed_on, _) in PROBLEMS {
                let of_bodies = matches!(*status, "408" | "413");
                if (is_passed_on || !only_passed_on) && (has_body || !of_bodies) {
                    let reference = json!({ "$ref": format!("#/components/responses/{name}") });
                    responses.entry(*status).or_insert(reference);
                }
            }
        }
    }
    let components = object(document, "components").entry("responses").or_insert_with(|| json!({}));
    for (_, name, _, description) in PROBLEMS {
        let schema = json!({ "$ref": "#/components/schemas/ProblemBody" });
        components[*name] = json!({
            "description": description,
            "content": { "application/problem+json": { "schema": schema } },
        });
    }
    let schemes = object(document, "components").entry("securitySchemes").or_insert_with(|| json!({}));
    schemes["cookie"] = json!({
        "type": "apiKey", "in": "cookie", "name": SESSION_COOKIE,
        "description": "La sesión que abre POST /api/v1/auth/login?session=cookie",
    });
    schemes["csrf"] = json!({
        "type": "apiKey", "in": "header", "name": CSRF_HEADER,
        "description": "Con una cookie, en todo lo que cambia algo y en los GET que inician o consumen algo: el csrf_token de la sesión",
    });
    schemes["apiKey"] = json!({
        "type": "apiKey", "in": "header", "name": "X-Api-Key",
        "description": "Una clave de POST /api/v1/api-keys",
    });
    // By this one Swagger UI logs people in, and so do the clients that are generated of it.
    schemes["oauth2"] = json!({
        "type": "oauth2", "flows": { "password": { "tokenUrl": "/api/v1/auth/login", "scopes": {} } },
        "description": "El usuario y su contraseña, por un access_token",
    });
}

/// Where a token is taken, a cookie and a key are as well, unless the operation says which; and a token can be had by a
/// password.
fn add_credentials(operation: &mut Value, needs_csrf: bool) {
    let Some(security) = operation.get_mut("security") else { return };
    if *security == json!([{ "bearer": [] }]) {
        *security = json!([{ "bearer": [] }, { "cookie": [] }, { "apiKey": [] }]);
    }
    let Some(requirements) = security.as_array_mut() else { return };
    for requirement in requirements.iter_mut() {
        if needs_csrf && requirement.get("cookie").is_some() {
            requirement["csrf"] = json!([]);
        }
    }
    if requirements.iter().any(|requirement| requirement.get("bearer").is_some()) {
        requirements.push(json!({ "oauth2": [] }));
    }
}

/// Adds what of a service's document can be reached through the gateway.
fn merge(mut into: Value, backend: Backend, service: &Value) -> Value {
    let mut service = service.clone();
    let renames = renames(&into, backend, &service);
    rewrite_references(&mut service, &renames);

    let paths = object(&mut into, "paths");
    for (path, item) in entries(&service, "paths") {
        if reachable(path, backend) {
            paths.entry(path.clone()).or_insert_with(|| item.clone());
        }
    }
    let components = object(&mut into, "components");
    for (section, named) in entries(&service, "components") {
        let Some(named) = named.as_object() else { continue };
        let section_into = components.entry(section.clone()).or_insert_with(|| json!({}));
        let Some(section_into) = section_into.as_object_mut() else { continue };
        for (name, component) in named {
            let reference = format!("#/components/{section}/{name}");
            let name = renames.get(&reference).and_then(|new| new.rsplit('/').next()).unwrap_or(name);
            section_into.entry(name.to_owned()).or_insert_with(|| component.clone());
        }
    }
    if let (Some(tags), Some(more)) = (
        into.as_object_mut().and_then(|into| into.entry("tags").or_insert_with(|| json!([])).as_array_mut()),
        service.get("tags").and_then(Value::as_array),
    ) {
        for tag in more {
            if !tags.iter().any(|known| known.get("name") == tag.get("name")) {
                tags.push(tag.clone());
            }
        }
    }
    into
}

/// Whether requests for this path go to this service.
fn reachable(path: &str, backend: Backend) -> bool {
    ROUTES.iter().find(|route| under(path, route.prefix)).is_some_and(|route| route.backend == backend)
}

/// New references for components whose name another service gave to something else.
fn renames(into: &Value, backend: Backend, service: &Value) -> BTreeMap<String, String> {
    let mut renames = BTreeMap::new();
    for (section, named) in entries(service, "components") {
        for (name, component) in named.as_object().into_iter().flatten() {
            let taken = into.pointer(&format!("/components/{section}/{name}"));
            if taken.is_some_and(|taken| taken != component) {
                renames.insert(
                    format!("#/components/{section}/{name}"),
                    format!("#/components/{section}/{}.{name}", backend.name()),
                );
            }
        }
    }
    renames
}

fn rewrite_references(value: &mut Value, renames: &BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "$ref" => {
                        if let Some(new) = renames.get(text.as_str()) {
                            new.clone_into(text);
                        }
                    }
                    member => rewrite_references(member, renames),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite_references(item, renames)),
        _ => {}
    }
}

/// The members of a member that is an object; none where there is no such member.
fn entries<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn object<'a>(value: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !value.get(name).is_some_and(Value::is_object) {
        value[name] = json!({});
    }
    value[name].as_object_mut().expect("it was just made one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_cookie_what_changes_something_and_the_gets_that_say_so_need_the_csrf_token() {
        let operation = || json!({ "security": [{ "bearer": [] }] });
        let mut starts = operation();
        starts[NEEDS_CSRF] = json!(true);
        let mut document = json!({ "paths": {
            "/api/v1/catalog/items": { "get": operation(), "post": operation() },
            "/reporte": { "get": starts },
        } });
        through_the_gateway(&mut document);
        let cookie = |path: &str, method: &str| document["paths"][path][method]["security"][1].clone();
        assert_eq!(cookie("/api/v1/catalog/items", "get"), json!({ "cookie": [] }));
        let both = json!({ "cookie": [], "csrf": [] });
        assert_eq!(cookie("/api/v1/catalog/items", "post"), both);
        assert_eq!(cookie("/reporte", "get"), both);
        assert_eq!(document["paths"]["/reporte"]["get"]["security"][3], json!({ "oauth2": [] }));
    }

    #[test]
    fn merging_keeps_both_sides_apart_and_shows_only_what_can_be_reached() {
        let own = json!({
            "openapi": "3.1.0",
            "paths": { "/api/v1/auth/login": { "post": {} } },
            "components": { "schemas": { "Page": { "type": "object" }, "Problem": { "type": "string" } } },
            "tags": [{ "name": "auth" }],
        });
        let service = json!({
            "paths": {
                "/api/v1/catalog/items": { "get": { "x": { "$ref": "#/components/schemas/Page" },
                                                    "y": { "$ref": "#/components/schemas/Problem" } } },
                "/health": { "get": {} },
                "/api/v1/auth/login": { "post": { "evil": true } },
            },
            "components": {
                "schemas": { "Page": { "type": "array", "items": { "$ref": "#/components/schemas/Item" } },
                             "Problem": { "type": "string" }, "Item": {} },
                "securitySchemes": { "bearer": { "type": "http" } },
            },
            "tags": [{ "name": "auth" }, { "name": "catalog" }],
        });
        let merged = merge(own, Backend::CatalogUpload, &service);
        let paths: Vec<_> = entries(&merged, "paths").map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/api/v1/auth/login", "/api/v1/catalog/items"]);
        assert_eq!(merged["paths"]["/api/v1/auth/login"]["post"], json!({}), "the gateway's own stays");
        let get = &merged["paths"]["/api/v1/catalog/items"]["get"];
        assert_eq!(get["x"]["$ref"], "#/components/schemas/catalog-upload.Page");
        assert_eq!(get["y"]["$ref"], "#/components/schemas/Problem", "the same thing keeps its name");
        let schemas = &merged["components"]["schemas"];
        assert_eq!(schemas["Page"]["type"], "object");
        assert_eq!(schemas["catalog-upload.Page"]["items"]["$ref"], "#/components/schemas/Item");
        assert!(schemas["Item"].is_object());
        assert_eq!(merged["components"]["securitySchemes"]["bearer"]["type"], "http");
        assert_eq!(merged["tags"], json!([{ "name": "auth" }, { "name": "catalog" }]));
    }
}
