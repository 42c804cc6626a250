use std::time::Duration;

use actix_web::http::StatusCode;
use chassis::Problem;
use sea_orm::DbErr;

/// Why identity refuses. [`From`] turns it into the problem that the client reads.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Unknown user, wrong password, disabled account: one answer for all three.
    #[error("wrong credentials")]
    Credentials,
    /// Too many failures.
    #[error("throttled for {0:?}")]
    Throttled(Duration),
    /// More logins at once than the process hashes.
    #[error("all hashing slots are taken")]
    Busy,
    /// No credential in the request.
    #[error("no credential")]
    Anonymous,
    /// A credential that is malformed, unknown, expired or revoked.
    #[error("invalid credential")]
    InvalidToken,
    /// An access token, likewise.
    #[error(transparent)]
    Rejected(#[from] chassis::auth::Rejected),
    /// A refresh token, likewise.
    #[error("invalid refresh token")]
    InvalidRefresh,
    /// A cookie on an unsafe method without its CSRF token.
    #[error("CSRF token missing or wrong")]
    Csrf,
    /// The role does not allow it.
    #[error("not allowed")]
    Forbidden,
    /// An API key where a person must act.
    #[error("an API key may not do this")]
    NotForKeys,
    /// No such user or key, or not the caller's.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// Somebody else has that user name or address.
    #[error("{0} is taken")]
    Taken(&'static str),
    /// A user has as many API keys as one may have.
    #[error("more than {0} API keys")]
    TooManyKeys(u64),
    /// Without this user nobody could administer.
    #[error("the last administrator")]
    LastAdmin,
    /// A field is wrong. The text is for the person.
    #[error("{field}: {message}")]
    Invalid {
        /// The field, as in the request.
        field: &'static str,
        /// What is wrong with it and what was expected.
        message: String,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbErr),
    /// A defect, or a machine in trouble.
    #[error(transparent)]
    Internal(#[from] anyhow::Error),
}

impl Error {
    /// A wrong field.
    pub fn invalid(field: &'static str, message: impl ToString) -> Self {
        Self::Invalid { field, message: message.to_string() }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Credentials => {
                Self::new(StatusCode::UNAUTHORIZED, "invalid_credentials", "Usuario o contraseña incorrectos")
            }
            Error::Throttled(wait) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "login_throttled",
                "Demasiados intentos fallidos. Espere antes de volver a intentarlo",
            )
            .retry_after(wait),
            Error::Busy => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "Hay demasiados inicios de sesión a la vez. Inténtelo de nuevo en unos segundos",
            )
            .retry_after(Duration::from_secs(2)),
            Error::Anonymous => Self::unauthorized("Debe iniciar sesión"),
            Error::InvalidToken => Self::invalid_token("La credencial no es válida o ha caducado"),
            Error::Rejected(rejected) => rejected.into(),
            Error::InvalidRefresh => Self::new(
                StatusCode::UNAUTHORIZED,
                "invalid_refresh_token",
                "La sesión ha caducado o fue cerrada. Inicie sesión de nuevo",
            ),
            Error::Csrf => Self::new(
                StatusCode::FORBIDDEN,
                "csrf",
                "Falta el encabezado X-CSRF-Token o no corresponde a la sesión",
            ),
            Error::Forbidden => Self::of(StatusCode::FORBIDDEN),
            Error::NotForKeys => Self::new(
                StatusCode::FORBIDDEN,
                "not_for_api_keys",
                "Esta operación no admite claves de API: inicie sesión",
            ),
            Error::NotFound(what) => Self::not_found(format!("{what} no encontrado")),
            Error::Taken(field) => {
                Self::conflict("already_exists", format!("Ya existe un usuario con ese {field}"))
            }
            Error::TooManyKeys(most) => Self::conflict(
                "too_many_api_keys",
                format!(
                    "Cada usuario tiene {most} claves de API como máximo: revoque una antes de crear otra"
                ),
            ),
            Error::LastAdmin => Self::conflict(
                "last_admin",
                "Es el último administrador activo: nombre otro antes de quitarlo",
            ),
            Error::Invalid { field, message } => Self::unprocessable("invalid", message.clone())
                .with_details(serde_json::json!([{ "field": field, "error": message }])),
            Error::Db(error) => error.into(),
            Error::Internal(error) => error.into(),
        }
    }
}
