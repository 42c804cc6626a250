//! What several APIs are given: a condition, a number within bounds.

use std::{
    fmt::Display,
    future::{Ready, ready},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

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
