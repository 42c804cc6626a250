//! What the gateway serves: identity, the services behind it, live events, documentation.

pub mod access;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod auth;
pub mod backends;
mod breaker;
mod client_ip;
mod docs;
pub mod identity;
pub(crate) mod jwks;
pub mod limits;
mod places;
mod problems;
mod proxy;
pub mod routes;
mod secret;
mod stream;
pub(crate) mod users;
mod workers;

use std::time::Duration;

use actix_cors::{Cors, CorsError};
use actix_web::{
    Error, ResponseError as _,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    web::{self, ServiceConfig},
};
use chassis::{
    ApiResult, Problem,
    admin::Admin,
    http::{Document, Routes, get_only},
    routes,
};

pub use client_ip::client_ip;
pub use docs::Documents;
pub use places::Places;

use crate::{App, SERVICE, config::Settings};

/// The gateway's own operations, once each. The services' are in `routes`, as prefixes.
fn table() -> Routes {
    routes![stream::stream, workers::workers].and(identity::routes()).and(chassis::admin::routes(SERVICE))
}

/// The gateway's own document, before the services' are merged into it.
fn document() -> Document {
    table().document(SERVICE, "Lote", "Todo lo que ofrece la plataforma, por una sola puerta")
}

/// Adds everything the gateway serves, besides what every process does.
pub fn configure(config: &mut ServiceConfig, app: &web::Data<App>, admin: &Admin) {
    let mut scope = web::scope("")
        .app_data(app.clone())
        .service(get_only("/docs", docs::redirect))
        .service(get_only("/docs/{path:.*}", docs::page))
        .service(get_only("/api-docs/openapi.json", docs::document))
        .configure(|config| app.identity.configure(config))
        .configure(|config| admin.configure(config))
        .configure(|config| table().configure(config));
    // One resource a row, so that metrics and logs name the row.
    for route in routes::ROUTES.iter().filter(|route| app.backends.get(route.backend).is_some()) {
        let below = format!("{}/{{tail:.*}}", route.prefix);
        scope = scope.service(web::resource([route.prefix.to_owned(), below]).to(proxy::proxy));
    }
    scope = scope.default_service(web::to(unknown));
    // The last is the outermost: browsers see who may call even on refusals.
    config.service(
        scope.wrap(from_fn(access::guard)).wrap(cors(&app.settings)).wrap(from_fn(explain_preflight)),
    );
}

/// How many rows a page of a list has: as many as are asked for, within bounds.
fn page_size(limit: Option<u64>) -> u64 {
    limit.unwrap_or(50).clamp(1, 200)
}

async fn unknown() -> ApiResult {
    Err(Problem::of(StatusCode::NOT_FOUND))
}

/// Says of a preflight that is refused which setting decides: browsers tell their users nothing, and developers look here.
async fn explain_preflight<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let response = next.call(request).await?;
    let refusal = response.response().error().and_then(|error| error.as_error::<CorsError>());
    let Some(problem) = refusal.map(preflight_problem) else { return Ok(response.map_into_boxed_body()) };
    Ok(ServiceResponse::new(response.into_parts().0, problem.error_response()))
}

fn preflight_problem(refusal: &CorsError) -> Problem {
    match refusal {
        CorsError::OriginNotAllowed => Problem::new(
            StatusCode::FORBIDDEN,
            "origin_not_allowed",
            "El origen no está entre los permitidos; los fija CORS_ORIGINS en la configuración del gateway",
        ),
        CorsError::MethodNotAllowed => Problem::new(
            StatusCode::FORBIDDEN,
            "method_not_allowed",
            "El método no está entre los permitidos a otros orígenes: GET, HEAD, POST, PUT, PATCH, DELETE",
        ),
        CorsError::HeadersNotAllowed => Problem::new(
            StatusCode::FORBIDDEN,
            "header_not_allowed",
            format!(
                "Un encabezado no está entre los permitidos a otros orígenes: {}",
                ALLOWED_HEADERS.join(", ")
            ),
        ),
        other => Problem::bad_request("invalid_preflight", "La petición CORS previa no es válida")
            .because(anyhow::anyhow!("{other}")),
    }
}

/// What pages of other origins may send.
const ALLOWED_HEADERS: [&str; 10] = [
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "x-csrf-token",
    "if-match",
    "if-none-match",
    "x-request-id",
    "traceparent",
    "x-api-key",
];

/// Other origins than the API's own, if any are configured.
fn cors(settings: &Settings) -> Cors {
    let exposed = [
        header::RETRY_AFTER,
        header::CONTENT_DISPOSITION,
        header::ETAG,
        header::LOCATION,
        header::HeaderName::from_static("x-request-id"),
        header::HeaderName::from_static(crate::identity::CSRF_HEADER),
        limits::RATE_LIMIT,
        limits::RATE_LIMIT_POLICY,
        // Of dashboards: which data they show.
        header::HeaderName::from_static("x-cache"),
        header::HeaderName::from_static("x-data-version"),
        header::HeaderName::from_static("x-data-as-of"),
    ];
    let cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers(ALLOWED_HEADERS)
        .expose_headers(exposed)
        .supports_credentials()
        .max_age(usize::try_from(Duration::from_secs(3600).as_secs()).ok());
    settings.cors_origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}
