//! The gateway's operations on logins, users, keys and the audit.

use actix_web::web::{self, ServiceConfig};
use chassis::{http::Routes, routes};

use super::{api_keys, audit, auth, jwks, users};
use crate::identity::Identity;

/// Logins, users, keys and what was done with them; `/auth/…` is another spelling of `/api/v1/auth/…`.
pub fn routes() -> Routes {
    let routes = routes![
        auth::login,
        auth::refresh,
        auth::logout,
        auth::me,
        auth::change_password,
        users::list,
        users::create,
        users::get,
        users::change::update,
        users::change::disable,
        users::change::enable,
        users::delete,
        audit::list,
        api_keys::list,
        api_keys::create,
        api_keys::revoke,
        jwks::jwks,
    ];
    routes
        .taking("/api/v1/auth/login", "application/x-www-form-urlencoded", auth::login_by_form)
        .also_under("/api/v1/auth", "/auth")
        .also_under("/api/v1/auth/me", "/api/v1/me")
}

impl Identity {
    /// What the handlers of [`routes`] work with.
    pub fn configure(&self, config: &mut ServiceConfig) {
        config.app_data(web::Data::new(self.clone()));
    }
}
