//! What a client sends, as a type: query, JSON body, form. A name that is not known is refused, with the nearest one that is;
//! so is text that PostgreSQL can't hold (NUL), and a name that is given twice. The messages are for people, in Spanish:
//! no parser's own text reaches them.
//!
//! The names are those of the type itself, as Serde knows them, with its aliases. A struct with `#[serde(flatten)]` hides
//! them: such a struct needs `deny_unknown_fields`.

mod de;
mod nearest;
mod node;
mod refusal;

use std::{cell::Cell, ops::Deref, pin::pin, rc::Rc, time::Duration};

use actix_web::{
    FromRequest, HttpRequest, HttpResponse, Responder,
    body::BoxBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::{StatusCode, header},
    middleware::Next,
    web::Bytes,
};
use futures::{
    FutureExt as _, TryStreamExt as _,
    future::{LocalBoxFuture, Ready, ready},
};
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout_at};

pub use self::nearest::nearest as nearest_name;
use self::{de::Input, node::Node};
use super::Problem;

pub(crate) use self::refusal::Refusal;

/// What bodies may be that are read whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bodies {
    /// In bytes.
    pub(super) limit: usize,
    /// How long one may take to arrive beside what it may by [`SLOWEST`]: a client that trickles would hold a connection.
    pub(super) timeout: Duration,
}

/// Bytes a second below which a line is no line. The gateway demands as many of its clients.
const SLOWEST: u64 = 1_024;

impl Bodies {
    /// How long a body may take of which so many bytes have arrived: the more, the longer, so that an honest one over a slow
    /// line is not cut. What it says of its length earns nothing.
    fn patience(self, arrived: u64) -> Duration {
        self.timeout + Duration::from_millis(arrived * 1_000 / SLOWEST)
    }
}

/// The query of a request. Everything in it must be a field of `T`.
#[derive(Debug)]
pub struct Query<T>(pub T);

/// A JSON body, of which everything must be a field of `T`; as an answer, its JSON.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// A JSON body that may be left out.
#[derive(Debug)]
pub struct OptionalJson<T>(pub Option<T>);

/// A body of `application/x-www-form-urlencoded`, of which everything must be a field of `T`.
#[derive(Debug)]
pub struct Form<T>(pub T);

impl<T> Query<T> {
    /// What was sent.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Json<T> {
    /// What was sent.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Form<T> {
    /// What was sent.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Query<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Serialize> Responder for Json<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().json(self.0)
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(query(request.query_string()).map(Self))
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = has_type(request, |essence| {
            essence == "application/json"
                || (essence.starts_with("application/") && essence.ends_with("+json"))
        });
        let body = whole(request, payload);
        async move {
            if !is_json {
                return Err(unsupported("Se espera application/json"));
            }
            json(&body.await?).map(Self)
        }
        .boxed_local()
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for OptionalJson<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = whole(request, payload);
        async move {
            let body = body.await?;
            if body.trim_ascii().is_empty() {
                Ok(Self(None))
            } else {
                json(&body).map(|value| Self(Some(value)))
            }
        }
        .boxed_local()
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Form<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_form = has_type(request, |essence| essence == "application/x-www-form-urlencoded");
        let body = whole(request, payload);
        async move {
            if !is_form {
                return Err(unsupported("Se espera application/x-www-form-urlencoded"));
            }
            let body = body.await?;
            let broken = || Problem::bad_request("invalid_form", "Formulario inválido: no es UTF-8");
            let text = std::str::from_utf8(&body).map_err(|_| broken())?;
            let node = Node::of_pairs(&pairs(text).map_err(|name| not_text("El campo", &name))?);
            T::deserialize(Input::lenient(node))
                .map(Self)
                .map_err(|refusal| refusal.problem("unknown_field", "invalid_form", "campo"))
        }
        .boxed_local()
    }
}

/// A body to its end.
fn whole(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<Bytes, Problem>> + use<> {
    let bodies = request.app_data::<Bodies>().copied();
    let arrived = Rc::new(Cell::new(0_u64));
    let counter = Rc::clone(&arrived);
    let counted = payload.take().inspect_ok(move |bytes| counter.set(counter.get() + bytes.len() as u64));
    let body = Bytes::from_request(request, &mut Payload::Stream { payload: Box::pin(counted) });
    async move {
        let began = Instant::now();
        let mut body = pin!(body);
        loop {
            let patience = bodies.map_or(NEVER, |bodies| bodies.patience(arrived.get()));
            match timeout_at(began + patience, &mut body).await {
                Ok(body) => return body.map_err(|error| unread(&error)),
                // What has arrived meanwhile has earned it more.
                Err(_) if bodies.is_some_and(|bodies| bodies.patience(arrived.get()) > patience) => {}
                Err(_) => return Err(Problem::of(StatusCode::REQUEST_TIMEOUT)),
            }
        }
    }
}

/// Longer than any server is up.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A query's text as a type.
fn query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let pairs = pairs(text).map_err(|name| not_text("El parámetro", &name))?;
    T::deserialize(Input::lenient(Node::of_pairs(&pairs)))
        .map_err(|refusal| refusal.problem("unknown_parameter", "invalid_query", "parámetro"))
}

/// A body as a type.
fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let invalid =
        |detail: String| Problem::bad_request("invalid_json", format!("Cuerpo JSON inválido: {detail}"));
    let node: Node = serde_json::from_slice(body).map_err(|error| {
        let place = format!("línea {}, columna {}", error.line(), error.column());
        if error.is_eof() {
            invalid(format!("termina antes de tiempo ({place})"))
        } else {
            invalid(format!("error de sintaxis en la {place}"))
        }
        .because(error)
    })?;
    if let Some(path) = node.path_of_nul() {
        return Err(not_text("El campo", &path));
    }
    T::deserialize(Input::strict(node))
        .map_err(|refusal| refusal.problem("unknown_field", "invalid_json", "campo"))
}

/// A JSON text that stands in a parameter, as a type: its problems name the parameter.
///
/// # Errors
/// 400 with `code`.
pub fn json_parameter<T: DeserializeOwned>(
    name: &str,
    text: &str,
    code: &'static str,
    expected: &str,
) -> Result<T, Problem> {
    let refused = |why: String| Problem::bad_request(code, format!("{name} no es {expected}: {why}"));
    let node: Node = serde_json::from_str(text).map_err(|error| {
        refused(format!("error de sintaxis en la columna {}", error.column())).because(error)
    })?;
    T::deserialize(Input::strict(node)).map_err(|refusal| refused(refusal.sentence("campo")))
}

/// Names and values, decoded; or the name of the first that is no text.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let decoded = |part: &str| {
        let spaced = part.replace('+', " ");
        let text = percent_decode_str(&spaced).decode_utf8().ok()?.into_owned();
        (!text.contains('\0')).then_some(text)
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name).ok_or_else(|| "?".to_owned())?;
            let value = decoded(value).ok_or_else(|| name.clone())?;
            Ok((name, value))
        })
        .collect()
}

fn not_text(what: &str, name: &str) -> Problem {
    let detail = format!("{what} {name:?} no es texto: contiene NUL o bytes que no son UTF-8");
    Problem::bad_request("invalid_text", detail)
}

fn has_type(request: &HttpRequest, is_right: impl Fn(&str) -> bool) -> bool {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next().unwrap_or_default();
    is_right(essence.trim().to_ascii_lowercase().as_str())
}

fn unsupported(detail: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}

fn unread(error: &actix_web::Error) -> Problem {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => Problem::of(StatusCode::PAYLOAD_TOO_LARGE),
        _ if error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::of(StatusCode::PAYLOAD_TOO_LARGE)
        }
        _ => Problem::bad_request("incomplete_body", "El cuerpo de la petición llegó incompleto")
            .because(anyhow::anyhow!("{error}")),
    }
}

/// Refuses a path or a query that is no text, before anything else looks at it: in every service, whatever reads it. A
/// middleware.
pub(super) async fn refuse_what_is_no_text<B>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error>
where
    B: actix_web::body::MessageBody + 'static,
{
    let path = percent_decode_str(request.path()).decode_utf8();
    if path.is_err() || path.is_ok_and(|path| path.contains('\0')) {
        let detail = "La ruta no es texto: contiene NUL o bytes que no son UTF-8";
        return Err(Problem::bad_request("invalid_text", detail).into());
    }
    pairs(request.query_string()).map_err(|name| not_text("El parámetro", &name))?;
    next.call(request).await
}

/// The pairs of a query whose names may come several times, which no type of one value a name takes.
///
/// # Errors
/// 400 for a name that is not among `known`, and for what is no text.
pub fn repeated_parameters(
    query: &str,
    known: &'static [&'static str],
) -> Result<Vec<(String, String)>, Problem> {
    let pairs = pairs(query).map_err(|name| not_text("El parámetro", &name))?;
    match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(pairs),
        Some((name, _)) => {
            let refusal = Refusal::unknown(name, known);
            Err(refusal.problem("unknown_parameter", "invalid_query", "parámetro"))
        }
    }
}

/// Refuses any query: for operations that take none. A middleware.
pub(super) async fn refuse_a_query<B>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error>
where
    B: actix_web::body::MessageBody + 'static,
{
    let pairs = pairs(request.query_string()).map_err(|name| not_text("El parámetro", &name))?;
    match pairs.into_iter().next() {
        None => next.call(request).await,
        Some((name, _)) => {
            let refusal = Refusal::unknown(&name, &[]);
            Err(refusal.problem("unknown_parameter", "invalid_query", "parámetro").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Sort {
        #[default]
        Newest,
        Oldest,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Wanted {
        #[serde(default)]
        dry_run: bool,
        size: Option<u32>,
        #[serde(rename = "proveedorId", alias = "proveedor")]
        supplier: Option<String>,
        #[serde(default)]
        sort: Sort,
        id: Option<Uuid>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Nested {
        name: String,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        most: i32,
    }

    fn of_query(text: &str) -> Result<Wanted, (&'static str, String)> {
        query(text).map_err(|problem| (problem.code(), problem.to_string()))
    }

    fn of_json(text: &str) -> Result<Nested, (&'static str, String)> {
        json(text.as_bytes()).map_err(|problem| (problem.code(), problem.to_string()))
    }

    #[test]
    fn a_query_is_read_with_its_aliases_and_defaults() {
        let id = Uuid::nil();
        let read = of_query(&format!("dry_run=true&size=7&proveedor=P%C3%A9rez+1&sort=oldest&id={id}"));
        let expected = Wanted {
            dry_run: true,
            size: Some(7),
            supplier: Some("Pérez 1".into()),
            sort: Sort::Oldest,
            id: Some(id),
        };
        assert_eq!(read, Ok(expected));
        let nothing = Wanted { dry_run: false, size: None, supplier: None, sort: Sort::Newest, id: None };
        assert_eq!(of_query(""), Ok(nothing));
    }

    #[test]
    fn what_is_wrong_with_a_query_is_said_with_its_name() {
        for (text, code, said) in [
            ("dryrun=true", "unknown_parameter", "\"dryrun\"; ¿quiso decir \"dry_run\"?"),
            ("proveedor_id=1", "unknown_parameter", "¿quiso decir \"proveedorId\"?"),
            ("zzz=1", "unknown_parameter", "se conocen dry_run, size, proveedor"),
            ("size=much", "invalid_query", "El parámetro \"size\" es \"much\"; se espera un número entero"),
            ("size=-1", "invalid_query", "\"size\""),
            ("size=99999999999", "invalid_query", "\"size\""),
            ("dry_run=yes", "invalid_query", "se espera true o false"),
            ("sort=best", "invalid_query", "se espera newest u oldest"),
            ("id=7", "invalid_query", "se espera un UUID"),
            ("size=1&size=2", "invalid_query", "\"size\" está repetido"),
            ("proveedor=%00", "invalid_text", "\"proveedor\" no es texto"),
            ("proveedor=%ff", "invalid_text", "\"proveedor\" no es texto"),
            ("%00=1", "invalid_text", "no es texto"),
        ] {
            let (found, detail) = of_query(text).expect_err(text);
            assert_eq!(found, code, "{text}: {detail}");
            assert!(detail.contains(said), "{text}: {detail}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_with_its_place() {
        let good = of_json(r#"{"name":"a","inner":{"most":1},"list":[{"most":2}]}"#);
        assert_eq!(
            good,
            Ok(Nested { name: "a".into(), inner: Some(Inner { most: 1 }), list: vec![Inner { most: 2 }] })
        );
        for (text, code, said) in [
            ("", "invalid_json", "termina antes de tiempo"),
            ("{", "invalid_json", "termina antes de tiempo"),
            ("{x}", "invalid_json", "error de sintaxis en la línea 1"),
            ("[]", "invalid_json", "se espera un objeto"),
            ("{}", "invalid_json", "Falta el campo \"name\""),
            (r#"{"name":1}"#, "invalid_json", "El campo \"name\" es 1; se espera un texto"),
            (r#"{"name":null}"#, "invalid_json", "El campo \"name\" es null; se espera un texto"),
            (r#"{"name":"a","name":"b"}"#, "invalid_json", "\"name\" está repetido"),
            (r#"{"nmae":"a"}"#, "unknown_field", "\"nmae\"; ¿quiso decir \"name\"?"),
            (r#"{"name":"a","inner":{"mots":1}}"#, "unknown_field", "\"inner.mots\"; ¿quiso decir \"most\"?"),
            (r#"{"name":"a","list":[{"most":1},{"most":"x"}]}"#, "invalid_json", "\"list[1].most\" es \"x\""),
            (r#"{"name":"a","inner":{"most":1.5}}"#, "invalid_json", "se espera un número entero"),
            (r#"{"name":"a","inner":{"most":3000000000}}"#, "invalid_json", "\"inner.most\" es 3000000000"),
            ("{\"name\":\"a\\u0000b\"}", "invalid_text", "\"name\" no es texto"),
        ] {
            let (found, detail) = of_json(text).expect_err(text);
            assert_eq!(found, code, "{text}: {detail}");
            assert!(detail.contains(said), "{text}: {detail}");
        }
    }

    #[test]
    fn deep_bodies_are_refused_and_not_followed() {
        let deep = "[".repeat(100_000);
        assert_eq!(of_json(&deep).map_err(|(code, _)| code), Err("invalid_json"));
    }
}
