//! Whose request it is.

use std::{fmt, net::IpAddr};

use actix_web::{
    HttpMessage as _, HttpRequest,
    cookie::Cookie,
    http::{Method, header},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chassis::{
    Problem,
    auth::{Caller, Claims, Role},
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Error, Identity, span,
    vault::{digest, is_opaque},
};
use crate::{
    http::client_ip,
    storage::{api_keys, audit::Actor, families, users},
};

/// The cookie of a session. Scripts can't read it.
pub const SESSION_COOKIE: &str = "lote_session";
/// The cookie with the session's CSRF token, for scripts to read.
pub const CSRF_COOKIE: &str = "lote_csrf";
/// The header in which unsafe requests repeat that token.
pub const CSRF_HEADER: &str = "x-csrf-token";
/// What an API key begins with.
pub const KEY_PREFIX: &str = "lote_";
/// The header of an API key, beside `Authorization: ApiKey …`.
const KEY_HEADER: &str = "x-api-key";
/// Uses are noted to the minute, so that a busy key is not a busy row.
const NOTE_USE_EVERY: TimeDelta = TimeDelta::minutes(1);

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// An access token.
    Token,
    /// A cookie session, by its id.
    Session(Uuid),
    /// An API key, by its id.
    ApiKey(Uuid),
    /// None: the path needs none.
    Anonymous,
}

/// In the extensions of a request that reads by a cookie, without its CSRF token and without another proof that no page of
/// another site made the browser send it.
pub struct WithoutCsrf;

/// A caller that proved who it is.
#[derive(Clone)]
pub struct Authenticated {
    /// Who, with what role and bounds.
    pub claims: Claims,
    /// An access token that says so, for the services behind the gateway.
    pub token: String,
    /// How it was proved.
    pub credential: Credential,
    /// The user it is or, of an API key, who made it. A caller without a login is nobody.
    pub user: Option<Uuid>,
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claims { sub, role, .. } = &self.claims;
        f.debug_struct("Authenticated")
            .field("sub", sub)
            .field("role", role)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

impl From<&Authenticated> for Caller {
    fn from(authenticated: &Authenticated) -> Self {
        Self::from(authenticated.claims.clone())
    }
}

impl Identity {
    /// Who sends this request: by `Authorization: Bearer` (an access token) or `ApiKey`, by `X-Api-Key`, or by
    /// session cookie, in this order; one that is given and wrong is never passed over for the next. Asked
    /// once a request: the answer stays in its extensions.
    ///
    /// `None` where there is no credential at all.
    ///
    /// # Errors
    /// 401 for a credential that does not hold, 403 for a cookie on an unsafe method without its CSRF token, 503
    /// while the database can't be asked about a key or a session. Access tokens need no database.
    pub async fn caller_of(&self, request: &HttpRequest) -> Result<Option<Authenticated>, Problem> {
        // A guard of its own statement: the borrow must end before the await below.
        let known = request.extensions().get::<Authenticated>().cloned();
        if known.is_some() {
            return Ok(known);
        }
        let caller = self.identify(request).await?;
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        Ok(caller)
    }

    async fn identify(&self, request: &HttpRequest) -> Result<Option<Authenticated>, Error> {
        let headers = request.headers();
        let mut given = headers.get_all(header::AUTHORIZATION);
        if let Some(value) = given.next() {
            if given.next().is_some() {
                return Err(Error::InvalidToken);
            }
            let (scheme, credential) =
                value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Error::InvalidToken)?;
            return match scheme.to_ascii_lowercase().as_str() {
                "bearer" => self.by_token(credential.trim()).await.map(Some),
                "apikey" => self.by_api_key(credential.trim()).await.map(Some),
                _ => Err(Error::InvalidToken),
            };
        }
        if let Some(value) = headers.get(KEY_HEADER) {
            let key = value.to_str().map_err(|_| Error::InvalidToken)?;
            return self.by_api_key(key.trim()).await.map(Some);
        }
        match request.cookie(SESSION_COOKIE) {
            Some(cookie) => self.by_session(cookie.value(), request).await.map(Some),
            None => Ok(None),
        }
    }

    async fn by_token(&self, token: &str) -> Result<Authenticated, Error> {
        let claims = self.keys().verify(self.vault(), token).await?;
        if claims.sid.is_some_and(|session| self.ended().contains(session)) {
            return Err(Error::InvalidToken);
        }
        let user = claims.sub.parse().ok();
        Ok(Authenticated { claims, token: token.to_owned(), credential: Credential::Token, user })
    }

    async fn by_api_key(&self, key: &str) -> Result<Authenticated, Error> {
        if !is_opaque(key, KEY_PREFIX) {
            return Err(Error::InvalidToken);
        }
        let now = self.now();
        let found = api_keys::find(self.orm(), digest(key)).await?;
        let (key, owner) = found.ok_or(Error::InvalidToken)?;
        if !self.stands(&key, &owner)? {
            return Err(Error::InvalidToken);
        }
        let (standing, end) = (key.standing()?, key.ends_at(self.settings().key_longest));
        if due(key.last_used_at, now)
            && let Err(error) = api_keys::touch(self.orm(), key.id, now).await
        {
            tracing::warn!(%error, key = %key.id, "could not note the use of an API key");
        }
        let claims = self.claims(key.id, standing, key.scopes, Some(key.name), Some(end));
        let claims = Claims { owner: Some(owner.id.to_string()), ..claims };
        self.authenticated(claims, Credential::ApiKey(key.id), Some(owner.id))
    }

    /// Whether a key works: not revoked, its time not over, and its maker may still hand it out.
    fn stands(&self, key: &api_keys::Model, owner: &users::Model) -> Result<bool, Error> {
        let over = key.revoked_at.is_some() || key.ends_at(self.settings().key_longest) <= self.now();
        Ok(!over && owner.disabled_at.is_none() && owner.standing()?.covers(&key.standing()?))
    }

    /// Whether a key that worked still does.
    ///
    /// # Errors
    /// The database.
    pub async fn key_stands(&self, id: Uuid) -> Result<bool, Error> {
        match api_keys::get(self.orm(), id).await? {
            Some((key, owner)) => self.stands(&key, &owner),
            None => Ok(false),
        }
    }

    async fn by_session(&self, cookie: &str, request: &HttpRequest) -> Result<Authenticated, Error> {
        if !is_opaque(cookie, "") {
            return Err(Error::InvalidToken);
        }
        let now = self.now();
        let found = families::session(self.orm(), digest(cookie)).await?;
        let (session, user) = found.ok_or(Error::InvalidToken)?;
        let idle = session.last_used_at + span(self.settings().session_idle) <= now;
        if session.revoked_at.is_some() || session.expires_at <= now || idle || user.disabled_at.is_some() {
            return Err(Error::InvalidToken);
        }
        let presented = request.headers().get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        if !presented.is_some_and(|token| self.vault().csrf_fits(session.id, token)) {
            if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
                return Err(Error::Csrf);
            }
            if !is_own(request) {
                request.extensions_mut().insert(WithoutCsrf);
            }
        }
        if due(Some(session.last_used_at), now)
            && let Err(error) = families::touch(self.orm(), session.id, now).await
        {
            tracing::warn!(%error, session = %session.id, "could not note the use of a session");
        }
        let claims = self.user_claims(&user, &session)?;
        self.authenticated(claims, Credential::Session(session.id), Some(user.id))
    }

    pub(super) fn authenticated(
        &self,
        claims: Claims,
        credential: Credential,
        user: Option<Uuid>,
    ) -> Result<Authenticated, Error> {
        let token = self.keys().sign(claims.clone())?;
        Ok(Authenticated { claims, token, credential, user })
    }

    /// The user who sends this request, as the database has them now: for what changes users and keys, a token's
    /// word of a quarter of an hour ago is not enough.
    ///
    /// # Errors
    /// As [`Identity::caller_of`]; 403 for an API key; 401 for a token whose user is gone, disabled or of
    /// another role since.
    pub async fn person(&self, request: &HttpRequest) -> Result<Person, Problem> {
        let caller = self.caller_of(request).await?.ok_or(Error::Anonymous)?;
        if let Credential::ApiKey(_) | Credential::Anonymous = caller.credential {
            return Err(Error::NotForKeys.into());
        }
        // The tokens that stand for API keys name the key, which is nobody's id.
        let id: Uuid = caller.claims.sub.parse().map_err(|_| Error::InvalidToken)?;
        let user = users::get(self.orm(), id).await?.ok_or(Error::InvalidToken)?;
        if user.disabled_at.is_some() || user.role != caller.claims.role {
            return Err(Error::InvalidToken.into());
        }
        let address = self.address_of(request);
        Ok(Person { user, credential: caller.credential, address })
    }

    /// [`Identity::person`], who must be an administrator.
    ///
    /// # Errors
    /// As there; 403 for another role.
    pub async fn admin(&self, request: &HttpRequest) -> Result<Person, Problem> {
        let person = self.person(request).await?;
        if person.user.role == Role::Admin { Ok(person) } else { Err(Error::Forbidden.into()) }
    }

    /// The client's address.
    pub fn address_of(&self, request: &HttpRequest) -> IpAddr {
        client_ip(request, &self.settings().trusted_proxies)
    }
}

/// A user at the other end.
#[derive(Debug)]
pub struct Person {
    /// Who, as stored.
    pub user: users::Model,
    /// How it was proved.
    pub credential: Credential,
    /// From where.
    pub address: IpAddr,
}

impl Person {
    /// For the audit.
    pub fn actor(&self) -> Actor {
        Actor {
            user: Some((self.user.id, self.user.username.clone())),
            address: Some(self.address.to_string()),
        }
    }
}

/// What stands for the key or the session of a request wherever it is remembered: a digest of it. None where there is nothing
/// to ask the database: for an access token, and for what has not the form of a key or a session.
pub fn looked_up(request: &HttpRequest) -> Option<String> {
    let headers = request.headers();
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        let is_key = scheme.eq_ignore_ascii_case("apikey");
        return if is_key { fingerprint(key.trim(), KEY_PREFIX) } else { None };
    }
    if let Some(value) = headers.get(KEY_HEADER) {
        return fingerprint(value.to_str().ok()?.trim(), KEY_PREFIX);
    }
    session_looked_up(&request.cookie(SESSION_COOKIE)?)
}

/// The same for the cookie of a session.
pub fn session_looked_up(cookie: &Cookie<'_>) -> Option<String> {
    fingerprint(cookie.value(), "")
}

fn fingerprint(text: &str, prefix: &str) -> Option<String> {
    is_opaque(text, prefix).then(|| URL_SAFE_NO_PAD.encode(digest(text)))
}

/// Whether the request itself shows that no page of another site sent it: the browser says that the page is of this origin, or
/// its content type is one that a page of another origin can't send without asking first (CORS), and is then one of those
/// that were allowed.
fn is_own(request: &HttpRequest) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let essence = text("content-type").and_then(|kind| kind.split(';').next()).unwrap_or_default();
    text("sec-fetch-site") == Some("same-origin") || essence.trim().eq_ignore_ascii_case("application/json")
}

fn due(last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    last.is_none_or(|last| last + NOTE_USE_EVERY <= now)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{SESSION_COOKIE, is_own, looked_up};

    #[test]
    fn keys_and_sessions_are_looked_up_and_neither_access_tokens_nor_what_has_another_form() {
        let random = "x".repeat(43);
        let (key, apikey) = (format!("lote_{random}"), format!("apikey lote_{random}"));
        let (given, session) = (format!("ApiKey  lote_{random} "), format!("{SESSION_COOKIE}={random}"));
        let (scheme, other) = (format!("apikeys lote_{random}"), format!("{SESSION_COOKIE}={key}"));
        let of = |name: &'static str, value: &str| {
            looked_up(&TestRequest::get().insert_header((name, value)).to_http_request())
        };
        let known = of("x-api-key", &key);
        assert!(known.as_ref().is_some_and(|known| !known.contains(&random)), "{known:?}");
        assert_eq!(of("authorization", &given), known);
        assert_eq!(of("authorization", &apikey), known);
        assert!(of("cookie", &session).is_some_and(|session| Some(session) != known));
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("authorization", ""),
            ("authorization", scheme.as_str()),
            ("x-api-key", "x"),
            ("x-api-key", random.as_str()),
            ("cookie", other.as_str()),
            ("cookie", "theme=dark"),
        ] {
            assert_eq!(of(name, value), None, "{name}: {value}");
        }
    }

    #[test]
    fn only_what_no_other_site_can_send_is_the_origins_own() {
        for (name, value, own) in [
            ("sec-fetch-site", "same-origin", true),
            ("sec-fetch-site", "same-site", false),
            ("sec-fetch-site", "cross-site", false),
            // Typed into the address bar, or from a program beside the browser.
            ("sec-fetch-site", "none", false),
            ("content-type", "application/json", true),
            ("content-type", "Application/JSON; charset=utf-8", true),
            ("content-type", "text/plain", false),
            ("content-type", "text/plain; x=application/json", false),
            ("content-type", "application/x-www-form-urlencoded", false),
            ("content-type", "multipart/form-data; boundary=x", false),
            ("content-type", "", false),
            ("accept", "application/json", false),
        ] {
            let request = TestRequest::get().insert_header((name, value)).to_http_request();
            assert_eq!(is_own(&request), own, "{name}: {value}");
        }
    }
}
