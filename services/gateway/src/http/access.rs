//! Who sends a request, and how often they may: one middleware before everything the gateway serves. It
//! leaves the caller in the request's extensions, where handlers (`chassis::auth::Caller` too) find it.

use actix_web::{
    Error, HttpMessage as _, HttpRequest, ResponseError as _,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
    web,
};
use chassis::{
    Problem,
    auth::{Caller, Role},
};
use percent_encoding::percent_decode_str;

use super::{
    client_ip::client_ip,
    limits::{Class, Lookup, address_key},
    routes,
};
use crate::{
    App,
    config::Settings,
    identity::{self, Authenticated, SESSION_COOKIE, looked_up, session_looked_up},
};

/// What was found out about the sender of a request.
enum Access {
    /// Authenticated, or let in as a legacy path's role; the token is what services get to see.
    Known { caller: Caller, token: String },
    /// No credentials.
    Nobody,
    /// Credentials that don't hold.
    Refused(Problem),
}

/// The middleware.
pub async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if is_open(request.request()) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let app = request
        .app_data::<web::Data<App>>()
        .cloned()
        .ok_or_else(|| Problem::internal(anyhow::anyhow!("the guard runs outside of the gateway")))?;
    let class = class(request.request());
    let address = address_key(client_ip(request.request(), &app.settings.trusted_proxies));
    // Logins carry no credentials yet; what they carry is checked by their own handlers.
    // Nor do webhooks and pages: their secret is the service's to check. And documentation is for everyone.
    let access = if matches!(class, Class::Auth | Class::Webhook) || is_documentation(request.request()) {
        Access::Nobody
    } else {
        identify(&app, request.request(), &address).await
    };
    let account = match request.extensions().get::<Authenticated>().and_then(|known| known.user) {
        Some(user) => format!("user:{user}"),
        None => address,
    };
    let verdict = app.limiter.check(class, &account);
    let mut response = match access {
        _ if !verdict.allowed => request.into_response(Problem::too_many(verdict.reset).error_response()),
        // Here and not in the handlers: those of other crates know only callers and no refusals. Who wants to
        // leave may, with whatever is left of a session.
        Access::Refused(problem) if !request.path().ends_with("/auth/logout") => {
            request.into_response(problem.error_response())
        }
        access => {
            {
                let mut extensions = request.extensions_mut();
                if let Access::Known { caller, .. } = &access {
                    extensions.insert(caller.clone());
                }
                extensions.insert(access);
                extensions.insert(Account(account));
            }
            next.call(request).await?.map_into_boxed_body()
        }
    };
    if class == Class::Auth
        && let Some(session) = response.response().cookies().find(|cookie| cookie.name() == SESSION_COOKIE)
        && let Some(credential) = session_looked_up(&session)
    {
        // Whoever has just logged in need not be looked up first, which others of the same address may delay.
        app.limiter.held(&credential);
    }
    for (name, value) in verdict.headers() {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// The subject of tokens for legacy paths: everyone who comes without a login.
pub const LEGACY: &str = "legacy-anonymous";

async fn identify(app: &App, request: &HttpRequest, address: &str) -> Access {
    let credential = looked_up(request);
    // Whoever guesses would have the database asked each time, and all others' sessions wait for it.
    match credential.as_deref().map(|credential| app.limiter.lookup(address, credential)) {
        None | Some(Lookup::Allowed) => {}
        Some(Lookup::Refused) => return Access::Refused(identity::Error::InvalidToken.into()),
        Some(Lookup::Wait(wait)) => return Access::Refused(Problem::too_many(wait)),
    }
    match app.identity.caller_of(request).await {
        Ok(Some(known)) => {
            if let Some(credential) = &credential {
                app.limiter.held(credential);
            }
            Access::Known { caller: known.claims.into(), token: known.token }
        }
        Ok(None) => match app.settings.legacy_role(request.path()) {
            Some(role) => match app.identity.token_for_role(LEGACY, role) {
                Ok(known) => Access::Known { caller: known.claims.into(), token: known.token },
                Err(problem) => Access::Refused(problem),
            },
            None => Access::Nobody,
        },
        Err(problem) => {
            if let Some(credential) = &credential
                && problem.status() == StatusCode::UNAUTHORIZED
            {
                app.limiter.refused(address, credential);
            }
            Access::Refused(problem)
        }
    }
}

/// What everyone may read.
fn is_documentation(request: &HttpRequest) -> bool {
    let path = request.path();
    path == "/docs" || path.starts_with("/docs/") || path.starts_with("/api-docs/")
}

/// What everyone may read as often as they like: keys, health.
fn is_open(request: &HttpRequest) -> bool {
    let path = request.path();
    path.starts_with("/.well-known/")
        || routes::find(request.method(), path).is_some_and(|route| route.anonymous)
}

/// Whom limits count a request to: the user, by whatever credential, or an address.
struct Account(String);

/// Whom a request counts to, wherever callers are counted.
pub fn account(request: &HttpRequest, settings: &Settings) -> String {
    let known = request.extensions().get::<Account>().map(|account| account.0.clone());
    known.unwrap_or_else(|| address_key(client_ip(request, &settings.trusted_proxies)))
}

fn class(request: &HttpRequest) -> Class {
    // Decoded, as the router matches it: another spelling is the same resource.
    let path = percent_decode_str(request.path()).decode_utf8_lossy();
    let path = path.strip_prefix("/api/v1").unwrap_or(&path);
    if *request.method() == Method::POST && matches!(path, "/auth/login" | "/auth/refresh") {
        Class::Auth
    } else if routes::find(request.method(), request.path()).is_some_and(|route| route.webhook || route.page)
    {
        // Thousands of people open the links of a campaign from their carrier's few addresses.
        Class::Webhook
    } else if is_upload(request) {
        Class::Upload
    } else {
        Class::Default
    }
}

/// The caller.
///
/// # Errors
/// 401 where there is none.
pub fn caller(request: &HttpRequest) -> Result<Caller, Problem> {
    authorise_any(request).map(|(caller, _)| caller)
}

/// The caller, who must have one of `roles`, and the token that speaks for it at the services.
///
/// # Errors
/// 401 where there is no caller, 403 where its role is none of them.
pub fn authorise(request: &HttpRequest, roles: &[Role]) -> Result<(Caller, String), Problem> {
    let (caller, token) = authorise_any(request)?;
    caller.require(roles)?;
    Ok((caller, token))
}

fn authorise_any(request: &HttpRequest) -> Result<(Caller, String), Problem> {
    match request.extensions_mut().remove::<Access>() {
        Some(Access::Known { caller, token }) => Ok((caller, token)),
        Some(Access::Refused(problem)) => Err(problem),
        Some(Access::Nobody) | None => Err(Problem::unauthorized("Falta el token de acceso")),
    }
}

/// Whether a request carries a file.
pub fn is_upload(request: &HttpRequest) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data"))
}
