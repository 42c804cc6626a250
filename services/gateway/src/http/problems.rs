//! The problems that only a gateway has. Texts are for the people at the other end; `details` names the
//! service, as clients have always read it.

use std::time::Duration;

use actix_web::http::StatusCode;
use chassis::Problem;

use super::routes::Backend;

const UNAVAILABLE: &str = "Servicio no disponible";

/// 503: the backend can't be reached.
pub fn unreachable(backend: Backend, retry_after: Duration) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "backend_unavailable", UNAVAILABLE)
        .with_details(format!("No se pudo conectar con {}", backend.name()))
        .retry_after(retry_after)
}

/// 502: the backend broke off before it had answered. What it did with the request is unknown.
pub fn broke_off(backend: Backend) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "backend_broke_off", UNAVAILABLE).with_details(format!(
        "{} cortó la conexión antes de responder; si reintenta, use la misma Idempotency-Key",
        backend.name()
    ))
}

/// 504: the backend is there and silent. What it did with the request is unknown.
pub fn silent(backend: Backend, waited: Duration) -> Problem {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "backend_timeout", "El servicio no respondió a tiempo")
        .with_details(format!("{} no respondió en {} ms", backend.name(), waited.as_millis()))
}

/// 413, with the limit in bytes.
pub fn too_large(limit: u64) -> Problem {
    Problem::too_large(format!("La petición supera el máximo de {limit} bytes"))
}

/// 408: the client stopped sending.
pub fn slow_client(waited: Duration) -> Problem {
    Problem::of(StatusCode::REQUEST_TIMEOUT)
        .with_details(format!("No llegaron datos durante {} ms", waited.as_millis()))
}

/// 400: the client went away, or what it sent is not HTTP.
pub fn broken_body(cause: impl Into<anyhow::Error>) -> Problem {
    Problem::bad_request("incomplete_body", "El cuerpo de la petición llegó incompleto").because(cause)
}
