//! What several APIs are given: a condition, what it is a condition of, a number within bounds.

use std::{
    fmt::Display,
    future::{Ready, ready},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::StatusCode, web::Path};
use futures::future::LocalBoxFuture;
use serde_json::json;
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{SchemaType, Type},
    },
};

use super::Problem;

/// The version that the caller read (RFC 9110, 13.1.1); none where the header is missing or `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfMatch(pub Option<i64>);

impl FromRequest for IfMatch {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let header = request.headers().get("if-match").map(|value| value.to_str().unwrap_or_default().trim());
        ready(match header {
            None | Some("*") => Ok(Self(None)),
            Some(tag) => {
                let version = tag.trim_matches('"').parse().ok();
                version.map(|version| Self(Some(version))).ok_or_else(|| {
                    Problem::bad_request(
                        "invalid_if_match",
                        format!("If-Match {tag:?} no es un ETag de este recurso"),
                    )
                })
            }
        })
    }
}

impl IfMatch {
    /// Refuses a change of what is not as the caller read it, but at `version`.
    ///
    /// # Errors
    /// As [`Problem::changed`].
    pub fn check(
        self,
        version: i64,
        code: &'static str,
        detail: impl FnOnce() -> String,
    ) -> Result<(), Problem> {
        match self.0 {
            Some(read) if read != version => Err(Problem::changed(code, detail(), version)),
            _ => Ok(()),
        }
    }
}

/// What a path names as its `id`, and the version of it that the caller read.
#[derive(Clone, Debug)]
pub struct Versioned {
    /// As it stands in the path.
    pub id: String,
    /// The version that was read.
    pub expected: IfMatch,
}

impl FromRequest for Versioned {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let id = Path::<String>::from_request(request, payload);
        let expected = IfMatch::from_request(request, payload);
        Box::pin(async move { Ok(Self { id: id.await?.into_inner(), expected: expected.await? }) })
    }
}

/// An operation that takes it says so by its name: `params(Versioned)`.
impl IntoParams for Versioned {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let schema = ObjectBuilder::new().schema_type(Type::String);
        let id = ParameterBuilder::new().name("id").parameter_in(ParameterIn::Path);
        let id = id.required(Required::True).schema(Some(schema)).build();
        vec![id, optional_header("If-Match", "El ETag leído: si cambió desde entonces, 412")]
    }
}

/// A header that may be missing, as the OpenAPI document has it.
pub(crate) fn optional_header(name: &str, description: &str) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// The version of what is answered, as the header that [`IfMatch`] is read from later.
pub fn etag(version: i64) -> (&'static str, String) {
    ("ETag", format!("\"{version}\""))
}

impl Problem {
    /// 412, with the ETag that the resource has by now: it changed since the caller read it.
    pub fn changed(code: &'static str, detail: impl Into<String>, version: i64) -> Self {
        let (_, etag) = etag(version);
        Self::new(StatusCode::PRECONDITION_FAILED, code, detail).with_details(json!({ "etag": etag }))
    }
}

/// A number from a query, within its bounds.
///
/// # Errors
/// 400 where it is not.
pub fn in_range<T: PartialOrd + Display>(name: &str, value: T, least: T, most: T) -> Result<T, Problem> {
    if (&least..=&most).contains(&&value) {
        Ok(value)
    } else {
        let detail = format!("{name} es {value}; se espera de {least} a {most}");
        Err(Problem::bad_request("invalid_page", detail))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[actix_web::test]
    async fn what_is_changed_is_named_with_the_version_that_was_read() {
        let request = |tag: &'static str| {
            TestRequest::default().param("id", "7").insert_header(("If-Match", tag)).to_http_request()
        };
        let target = Versioned::extract(&request("\"3\"")).await.expect("a thing and its version");
        assert_eq!((target.id.as_str(), target.expected), ("7", IfMatch(Some(3))));
        assert!(Versioned::extract(&request("\"x\"")).await.is_err());
        let said = Versioned::into_params(|| None);
        let said = said.iter().map(|one| (one.name.as_str(), one.required == Required::True));
        assert_eq!(said.collect::<Vec<_>>(), [("id", true), ("If-Match", false)]);
    }

    #[test]
    fn only_another_version_than_the_one_read_is_refused() {
        let check = |read| IfMatch(read).check(3, "thing_changed", || "cambió".to_owned());
        assert!(check(None).is_ok() && check(Some(3)).is_ok());
        let problem = check(Some(2)).expect_err("changed since");
        assert_eq!((problem.status(), problem.code()), (StatusCode::PRECONDITION_FAILED, "thing_changed"));
    }
}
