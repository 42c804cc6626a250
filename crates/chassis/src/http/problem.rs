use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use sea_orm::{DbErr, sqlx};
use serde::Serialize;
use serde_json::Value;

use crate::db;

/// The one form of error that leaves a process: RFC 9457 problem+json with a stable `code`, and the
/// members `error`, `message` and `details` that existing clients read. Texts are Spanish. What went wrong inside is
/// for the log only.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    details: Option<Value>,
    retry_after: Option<Duration>,
    challenge: Option<&'static str>,
    cause: Option<anyhow::Error>,
}

/// What a handler gives: its answer, or the problem that is answered in its place.
pub type ApiResult<T = HttpResponse> = Result<T, Problem>;

/// Por qué no se pudo (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProblemBody {
    /// `urn:lote:problem:<code>`: qué problema es.
    #[serde(rename = "type")]
    pub kind: String,
    /// Lo que significa su estado HTTP.
    pub title: &'static str,
    /// El estado HTTP.
    pub status: u16,
    /// Qué tiene de malo esta petición.
    pub detail: String,
    /// El id de la petición, como en los registros.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Para programas: no cambia nunca para el mismo problema.
    pub code: &'static str,
    /// Lo mismo que `detail`, donde lo buscan los clientes que ya existen.
    pub error: String,
    /// Otra vez lo mismo: es lo que muestra el cliente web del catálogo.
    pub message: String,
    /// Más sobre el problema, por ejemplo una entrada por campo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl Problem {
    /// A problem with a status, a code that never changes, and a sentence for the person.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            details: None,
            retry_after: None,
            challenge: None,
            cause: None,
        }
    }

    /// The problem that a bare status stands for.
    pub fn of(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::UNAUTHORIZED => return Self::unauthorized("No autenticado"),
            StatusCode::FORBIDDEN => return Self::forbidden("No tiene permiso para esta operación"),
            StatusCode::NOT_FOUND => ("not_found", "Recurso no encontrado"),
            StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "Método no permitido"),
            StatusCode::NOT_ACCEPTABLE => ("not_acceptable", "Formato de respuesta no disponible"),
            StatusCode::REQUEST_TIMEOUT => ("request_timeout", "La petición tardó demasiado en llegar"),
            StatusCode::PAYLOAD_TOO_LARGE => ("payload_too_large", "La petición es demasiado grande"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                ("unsupported_media_type", "Tipo de contenido no soportado")
            }
            StatusCode::TOO_MANY_REQUESTS => ("too_many_requests", "Demasiadas peticiones"),
            StatusCode::BAD_GATEWAY => ("bad_gateway", "Servicio no disponible"),
            StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "Servicio no disponible"),
            StatusCode::GATEWAY_TIMEOUT => ("gateway_timeout", "El servicio no respondió a tiempo"),
            status if status.is_server_error() => ("internal", "Error interno del servidor"),
            _ => ("bad_request", "Petición inválida"),
        };
        Self::new(status, code, detail)
    }

    /// 400.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401, with the challenge that RFC 6750 asks for.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self { challenge: Some("Bearer"), ..Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail) }
    }

    /// 401 for a token that was given and does not hold (RFC 6750, 3.1).
    pub fn invalid_token(detail: impl Into<String>) -> Self {
        Self {
            challenge: Some("Bearer error=\"invalid_token\""),
            ..Self::new(StatusCode::UNAUTHORIZED, "invalid_token", detail)
        }
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 409.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 413.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    }

    /// 422.
    pub fn unprocessable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 429, with when to come back.
    pub fn too_many(retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::of(StatusCode::TOO_MANY_REQUESTS) }
    }

    /// 500. The cause is logged, not shown.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self { cause: Some(cause.into()), ..Self::of(StatusCode::INTERNAL_SERVER_ERROR) }
    }

    /// 503: something we need does not answer, come back soon. The cause is logged, not shown.
    pub fn unavailable(code: &'static str, cause: impl Into<anyhow::Error>) -> Self {
        Self {
            cause: Some(cause.into()),
            retry_after: Some(Duration::from_secs(2)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "Servicio no disponible")
        }
    }

    /// The same with more about it.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Value>) -> Self {
        self.details = Some(details.into());
        self
    }

    /// The same with when to come back.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The same with what the log should say.
    #[must_use]
    pub fn because(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What the log says about it.
    pub fn cause(&self) -> Option<&anyhow::Error> {
        self.cause.as_ref()
    }

    fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("urn:lote:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Unknown"),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            instance: super::request_id(),
            code: self.code,
            error: self.detail.clone(),
            message: self.detail.clone(),
            details: self.details.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(challenge) = self.challenge {
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if let Some(after) = self.retry_after {
            // Whole seconds (RFC 9110, 10.2.3), rounded up so that nobody comes back too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        response
            .content_type("application/problem+json")
            .body(serde_json::to_vec(&self.body()).unwrap_or_else(|_| b"{}".to_vec()))
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if db::unavailable(&error) {
            Self::unavailable("database_unavailable", error)
        } else {
            Self::internal(error)
        }
    }
}

impl From<DbErr> for Problem {
    fn from(error: DbErr) -> Self {
        if db::orm_unavailable(&error) {
            Self::unavailable("database_unavailable", error)
        } else {
            Self::internal(error)
        }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        if db::any_unavailable(&error) {
            Self::unavailable("database_unavailable", error)
        } else {
            Self::internal(error)
        }
    }
}
