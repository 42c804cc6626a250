//! Reads that start something, or use something up. A browser sends its cookie along with any page's links and pictures, so
//! such a GET needs the session's CSRF token as well, or another proof that no other site sent it; whether it had one, the
//! gateway knows.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::StatusCode};

use super::Problem;

/// Whether the page of another site may have made the browser send this request: it reads, by a cookie, and without the
/// session's CSRF token or another proof that it is the origin's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossSite(bool);

impl CrossSite {
    /// The header by which the gateway says so. It passes on none of its clients' own.
    pub const HEADER: &str = "x-lote-cross-site";

    /// For a GET that is about to start something, or to use something up.
    ///
    /// # Errors
    /// 403 `csrf` where it may be another site's doing.
    pub fn refuse(self) -> Result<(), Problem> {
        if !self.0 {
            return Ok(());
        }
        let detail = "Esta petición hace algo más que leer: con una sesión de cookie necesita el encabezado X-CSRF-Token";
        Err(Problem::new(StatusCode::FORBIDDEN, "csrf", detail))
    }
}

impl FromRequest for CrossSite {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.headers().contains_key(Self::HEADER))))
    }
}
