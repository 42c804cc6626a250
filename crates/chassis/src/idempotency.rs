//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header): a client that never got its
//! answer sends the request again under the same key, and gets the answer of the first.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use sha2::{Digest as _, Sha256};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use crate::{Problem, http::optional_header};

/// The request's key, if it has one: 1 to 255 visible ASCII characters. Another is refused with 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<String>);

impl IdempotencyKey {
    fn parse(request: &HttpRequest) -> Result<Self, Problem> {
        let mut values = request.headers().get_all("idempotency-key");
        let Some(value) = values.next() else { return Ok(Self(None)) };
        match value.to_str() {
            Ok(key)
                if values.next().is_none()
                    && (1..=255).contains(&key.len())
                    && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Ok(Self(Some(key.to_owned())))
            }
            _ => Err(Problem::bad_request(
                "invalid_idempotency_key",
                "Idempotency-Key debe tener entre 1 y 255 caracteres ASCII visibles, sin espacios",
            )),
        }
    }
}

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::parse(request))
    }
}

/// An operation that takes it says so by its name: `params(IdempotencyKey)`.
impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "La repetición con la misma clave devuelve lo que creó la primera";
        vec![optional_header("Idempotency-Key", description)]
    }
}

/// What a request asks for, as SHA-256 in hexadecimal: the same key with another hash is a client's
/// mistake. Each part goes in with its length, so that `["ab","c"]` differs from `["a","bc"]`.
pub fn request_hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        let parse = |key: &str| {
            IdempotencyKey::parse(
                &TestRequest::default().insert_header(("idempotency-key", key)).to_http_request(),
            )
        };
        assert_eq!(parse("a-1").ok(), Some(IdempotencyKey(Some("a-1".into()))));
        assert!(parse(&"k".repeat(255)).is_ok());
        for bad in ["", "with space", &"k".repeat(256), "ñ"] {
            assert_eq!(parse(bad).expect_err(bad).code(), "invalid_idempotency_key");
        }
        let twice = TestRequest::default()
            .append_header(("idempotency-key", "a"))
            .append_header(("idempotency-key", "b"))
            .to_http_request();
        assert!(IdempotencyKey::parse(&twice).is_err());
        let none = TestRequest::default().to_http_request();
        assert_eq!(IdempotencyKey::parse(&none).ok(), Some(IdempotencyKey(None)));
    }

    #[test]
    fn a_hash_tells_where_its_parts_end() {
        assert_ne!(request_hash(&[b"ab", b"c"]), request_hash(&[b"a", b"bc"]));
        assert_eq!(request_hash(&[b"ab", b"c"]), request_hash(&[b"ab", b"c"]));
        // SHA-256 of nothing (FIPS 180-4's empty message).
        assert_eq!(request_hash(&[]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
