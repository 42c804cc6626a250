//! What several APIs are given: a condition, a number within bounds.

use std::{
    fmt::Display,
    future::{Ready, ready},
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::StatusCode};
use serde_json::json;

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

impl Problem {
    /// 412, with the ETag that the resource has by now: it changed since the caller read it.
    pub fn changed(code: &'static str, detail: impl Into<String>, version: i64) -> Self {
        let etag = format!("\"{version}\"");
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
    use super::*;

    #[test]
    fn only_another_version_than_the_one_read_is_refused() {
        let check = |read| IfMatch(read).check(3, "thing_changed", || "cambió".to_owned());
        assert!(check(None).is_ok() && check(Some(3)).is_ok());
        let problem = check(Some(2)).expect_err("changed since");
        assert_eq!((problem.status(), problem.code()), (StatusCode::PRECONDITION_FAILED, "thing_changed"));
    }
}
