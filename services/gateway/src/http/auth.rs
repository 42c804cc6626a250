//! Logging in, staying in, logging out; who am I.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    cookie::{Cookie, SameSite},
    http::header,
    web,
};
use chassis::{
    ApiResult,
    auth::{Claims, Role},
    config::Secret,
    http::{Form, Json, OptionalJson, Query},
};
use sea_orm::{ActiveValue::Set, EntityTrait as _, TransactionTrait as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    secret::{optional_secret, secret},
    users::User,
};
use crate::{
    domain::password,
    identity::{
        CSRF_COOKIE, CSRF_HEADER, Credential, Credentials, Error, Identity, Login, SESSION_COOKIE, Tokens,
    },
    storage::{
        PasswordHash,
        audit::{self, Action},
        families::{self, EndReason},
        users,
    },
};

/// More than that in a field is no name and no password.
const LONGEST: usize = 1024;

/// Un usuario o correo, y la contraseña.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct LoginRequest {
    /// Nombre de usuario o correo.
    #[serde(default)]
    username: Option<String>,
    /// Correo, en lugar de `username`.
    #[serde(default)]
    email: Option<String>,
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    password: Secret<String>,
    /// Abrir una sesión con cookie en lugar de entregar tokens.
    #[serde(default)]
    session: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct LoginQuery {
    /// `cookie`: lo mismo que `session: true`.
    session: Option<String>,
}

/// Un inicio de sesión con tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenResponse {
    /// JWT firmado con EdDSA.
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Segundos de validez de `access_token`.
    expires_in: u64,
    /// Se cambia por otro en cada renovación.
    refresh_token: String,
    user: User,
}

/// Un inicio de sesión con cookie. Los programas de la página no alcanzan la cookie: nada de aquí da acceso.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionResponse {
    /// Debe repetirse en `X-CSRF-Token` con cada POST, PUT, PATCH y DELETE, y con los GET que inician o consumen algo.
    csrf_token: String,
    user: User,
}

/// Iniciar sesión
///
/// Con `session` deja una cookie httpOnly y responde solo el token CSRF. La respuesta es la misma para un
/// usuario desconocido, una contraseña errada y una cuenta deshabilitada.
#[utoipa::path(
    operation_id = "auth_login",
    post, path = "/api/v1/auth/login", tag = "auth", security(()),
    params(LoginQuery),
    request_body(content((LoginRequest = "application/json"), (LoginForm = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "Tokens, o `SessionResponse` si se pidió una sesión", body = TokenResponse),
        (status = 401, description = "Credenciales incorrectas"),
        (status = 422, description = "Sin usuario, correo o contraseña"),
        (status = 429, description = "Demasiados intentos; ver Retry-After"),
    )
)]
pub(crate) async fn login(
    request: HttpRequest,
    identity: web::Data<Identity>,
    query: Query<LoginQuery>,
    body: Json<LoginRequest>,
) -> ApiResult {
    log_in(&request, &identity, &query, body.into_inner()).await
}

/// El formulario de la concesión por contraseña de OAuth 2.0 (RFC 6749, 4.3.2), que envían los clientes de
/// FastAPI y Swagger UI.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LoginForm {
    /// Nombre de usuario o correo.
    username: String,
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    password: Secret<String>,
    /// `password`, si se indica.
    grant_type: Option<String>,
    /// Como los dos que siguen: los clientes de OAuth lo envían, y no tiene efecto.
    #[serde(rename = "scope")]
    _scope: Option<String>,
    #[serde(rename = "client_id")]
    _client_id: Option<String>,
    #[serde(rename = "client_secret")]
    _client_secret: Option<String>,
}

/// [`login`], for a form.
pub(crate) async fn login_by_form(
    request: HttpRequest,
    identity: web::Data<Identity>,
    query: Query<LoginQuery>,
    form: Form<LoginForm>,
) -> ApiResult {
    let LoginForm { username, password, grant_type, .. } = form.into_inner();
    if grant_type.as_deref().is_some_and(|kind| !kind.is_empty() && kind != "password") {
        return Err(Error::invalid("grant_type", "grant_type solo admite el valor password").into());
    }
    // Any page may send a form here: it must not give its visitor's browser somebody's session.
    if query.session.is_some() {
        return Err(Error::invalid("session", "El formulario no abre sesiones con cookie: envíe JSON").into());
    }
    let body = LoginRequest { username: Some(username), email: None, password, session: false };
    log_in(&request, &identity, &query, body).await
}

async fn log_in(
    request: &HttpRequest,
    identity: &Identity,
    query: &LoginQuery,
    body: LoginRequest,
) -> ApiResult {
    let login = body.username.or(body.email).filter(|login| !login.trim().is_empty());
    let login = login.ok_or_else(|| Error::invalid("username", "Indique username o email"))?;
    if login.len() > LONGEST || body.password.expose().len() > LONGEST {
        return Err(Error::Credentials.into());
    }
    let as_session = match query.session.as_deref() {
        None => body.session,
        Some("cookie") => true,
        Some(_) => return Err(Error::invalid("session", "session solo admite el valor cookie").into()),
    };
    let credentials = Credentials { login, password: body.password, address: identity.address_of(request) };
    let login = identity.login(credentials, as_session).await?;
    respond(identity, login)
}

fn respond(identity: &Identity, login: Login) -> ApiResult {
    let user = User::try_from(login.user)?;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    Ok(match login.tokens {
        Tokens::Bearer { access, expires_in, refresh } => response.json(TokenResponse {
            access_token: access.expose().clone(),
            token_type: "Bearer",
            expires_in: expires_in.as_secs(),
            refresh_token: refresh.expose().clone(),
            user,
        }),
        Tokens::Session { cookie, csrf, lifetime } => {
            let secure = identity.settings().secure_cookies;
            set_cookies(&mut response, cookie.expose().clone(), &csrf, lifetime, secure);
            response.json(SessionResponse { csrf_token: csrf, user })
        }
    })
}

/// Sets both cookies; a lifetime of zero deletes them.
fn set_cookies(
    response: &mut HttpResponseBuilder,
    session: String,
    csrf: &str,
    lifetime: Duration,
    secure: bool,
) {
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    let cookie = |name: &'static str, value: String, http_only: bool| {
        Cookie::build(name, value)
            .path("/")
            .secure(secure)
            .http_only(http_only)
            .same_site(SameSite::Lax)
            .max_age(actix_web::cookie::time::Duration::seconds(seconds))
            .finish()
    };
    response.cookie(cookie(SESSION_COOKIE, session, true));
    response.cookie(cookie(CSRF_COOKIE, csrf.to_owned(), false));
    if !csrf.is_empty() {
        response.insert_header((CSRF_HEADER, csrf));
    }
}

/// Un token de renovación.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RefreshRequest {
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    refresh_token: Secret<String>,
}

/// Renovar los tokens
///
/// El token presentado deja de servir. Presentar uno ya usado cierra esa sesión, salvo el inmediatamente
/// anterior durante unos segundos (respuestas perdidas, dos pestañas).
#[utoipa::path(
    operation_id = "auth_refresh",
    post, path = "/api/v1/auth/refresh", tag = "auth", security(()),
    request_body = RefreshRequest,
    responses(
        (status = 200, description = "Tokens nuevos", body = TokenResponse),
        (status = 401, description = "Caducado, cerrado o ya usado"),
    )
)]
pub(crate) async fn refresh(
    request: HttpRequest,
    identity: web::Data<Identity>,
    body: Json<RefreshRequest>,
) -> ApiResult {
    let login = identity.refresh(&body.refresh_token, identity.address_of(&request)).await?;
    respond(&identity, login)
}

#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct LogoutRequest {
    #[serde(default, deserialize_with = "optional_secret")]
    #[schema(value_type = Option<String>)]
    refresh_token: Option<Secret<String>>,
}

/// Cerrar la sesión
///
/// La del `refresh_token` del cuerpo o, sin él, la de la cookie. Sus tokens de acceso dejan de servir en el acto y
/// sus conexiones de eventos se cierran.
#[utoipa::path(
    operation_id = "auth_logout",
    security((), ("cookie" = [])),
    post, path = "/api/v1/auth/logout", tag = "auth",
    request_body = LogoutRequest,
    responses(
        (status = 204, description = "Cerrada, o ya lo estaba"),
        (status = 403, description = "Cookie sin token CSRF"),
        (status = 422, description = "Sin el refresh_token de la sesión a cerrar"),
    )
)]
pub(crate) async fn logout(
    request: HttpRequest,
    identity: web::Data<Identity>,
    body: OptionalJson<LogoutRequest>,
) -> ApiResult {
    let body = body.0.unwrap_or_default();
    let address = identity.address_of(&request);
    if let Some(token) = &body.refresh_token {
        identity.logout(token, address).await?;
        return Ok(HttpResponse::NoContent().finish());
    }
    let caller = identity.caller_of(&request).await?.ok_or(Error::Anonymous)?;
    let Credential::Session(session) = caller.credential else {
        return Err(Error::invalid("refresh_token", "Indique el refresh_token de la sesión a cerrar").into());
    };
    identity.end(session, address).await?;
    let mut response = HttpResponse::NoContent();
    set_cookies(&mut response, String::new(), "", Duration::ZERO, identity.settings().secure_cookies);
    Ok(response.finish())
}

/// Quien llama, por su credencial.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    /// Del usuario, o de la clave de API.
    id: String,
    #[schema(example = "user")]
    kind: &'static str,
    name: Option<String>,
    role: Role,
    proveedor_id: Option<String>,
    /// Vacío: todo lo que el rol permite.
    scopes: Vec<String>,
    /// El usuario, si no es una clave de API.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User>,
}

/// Quién soy
#[utoipa::path(
    operation_id = "auth_get_me",
    get, path = "/api/v1/auth/me", tag = "auth",
    responses((status = 200, body = Me))
)]
pub(crate) async fn me(request: HttpRequest, identity: web::Data<Identity>) -> ApiResult {
    let caller = identity.caller_of(&request).await?.ok_or(Error::Anonymous)?;
    let user = match caller.credential {
        Credential::ApiKey(_) => None,
        _ => Some(User::try_from(identity.person(&request).await?.user)?),
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    // A console that was reloaded gets its CSRF token here, even if the readable cookie is gone.
    if let Credential::Session(session) = caller.credential {
        response.insert_header((CSRF_HEADER, identity.vault().csrf_token(session)));
    }
    let kind = if user.is_some() { "user" } else { "api_key" };
    let Claims { sub, role, proveedor_id, scopes, name, .. } = caller.claims;
    Ok(response.json(Me { id: sub, kind, name, role, proveedor_id, scopes, user }))
}

#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PasswordRequest {
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    current_password: Secret<String>,
    /// De 10 a 128 caracteres.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    new_password: Secret<String>,
}

/// Cambiar la contraseña propia
///
/// Cierra todas las sesiones del usuario, también esta; sus tokens de acceso dejan de servir en el acto.
#[utoipa::path(
    operation_id = "auth_change_password",
    security(("bearer" = []), ("cookie" = [])),
    post, path = "/api/v1/auth/password", tag = "auth",
    request_body = PasswordRequest,
    responses(
        (status = 204, description = "Cambiada; todas las sesiones quedan cerradas"),
        (status = 401, description = "La contraseña actual no es correcta"),
        (status = 422, description = "La nueva no sirve"),
        (status = 429, description = "Demasiados intentos"),
    )
)]
pub(crate) async fn change_password(
    request: HttpRequest,
    identity: web::Data<Identity>,
    body: Json<PasswordRequest>,
) -> ApiResult {
    let person = identity.person(&request).await?;
    let PasswordRequest { current_password, new_password } = body.into_inner();
    password::check(new_password.expose(), &person.user.username, person.user.email.as_deref())
        .map_err(|weakness| Error::invalid("new_password", weakness))?;
    if current_password.expose().len() > LONGEST {
        return Err(Error::Credentials.into());
    }
    // Counted like a login: a stolen access token must not allow guessing.
    let user = Some(&person.user);
    if !identity.check_password(&person.user.username, person.address, current_password, user).await? {
        return Err(Error::Credentials.into());
    }
    let hash = identity.hasher().hash(new_password).await?;
    let now = identity.now();
    let transaction = identity.orm().begin().await?;
    let current = users::get_for_update(&transaction, person.user.id).await?.ok_or(Error::InvalidToken)?;
    // Changed by someone else while we hashed: the password we checked is not the user's any more.
    if current.disabled_at.is_some() || current.password_hash != person.user.password_hash {
        return Err(Error::InvalidToken.into());
    }
    let change = users::ActiveModel {
        id: Set(current.id),
        password_hash: Set(PasswordHash(hash)),
        updated_at: Set(now),
        ..Default::default()
    };
    users::Entity::update(change).exec(&transaction).await?;
    families::revoke_all(&transaction, current.id, identity.ending(EndReason::Password, now)).await?;
    let target = Some(current.id.to_string());
    audit::record(&transaction, now, Action::PasswordChanged, &person.actor(), target, json!({})).await?;
    transaction.commit().await?;
    identity.apply_ended_sessions().await;
    let mut response = HttpResponse::NoContent();
    if let Credential::Session(_) = person.credential {
        set_cookies(&mut response, String::new(), "", Duration::ZERO, identity.settings().secure_cookies);
    }
    Ok(response.finish())
}
