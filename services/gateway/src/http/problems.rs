//! The problems that only a gateway has. Texts are for the people at the other end; `details` names the
//! service, as clients have always read it. The causes, for the log, are without the URL: it may hold a phone.

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

/// [`unreachable`], with what the attempt to connect said.
pub fn not_connected(backend: Backend, retry_after: Duration, error: reqwest::Error) -> Problem {
    unreachable(backend, retry_after).because(error.without_url())
}

/// 502: the backend broke off before it had answered. What it did with the request is unknown.
pub fn broke_off(backend: Backend, error: reqwest::Error) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "backend_broke_off", UNAVAILABLE)
        .with_details(format!(
            "{} cortó la conexión antes de responder; si reintenta, use la misma Idempotency-Key",
            backend.name()
        ))
        .because(error.without_url())
}

/// 504: the backend is there and silent. What it did with the request is unknown.
pub fn silent(backend: Backend, waited: Duration) -> Problem {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "backend_timeout", "El servicio no respondió a tiempo")
        .with_details(format!("{} no respondió en {} ms", backend.name(), waited.as_millis()))
}

/// 429: the caller has as much under way as it may have.
pub fn too_many_at_once(what: &str, cap: usize) -> Problem {
    Problem::too_many(Duration::from_secs(5)).with_details(format!("Máximo {cap} {what} a la vez"))
}

/// 413, with the limit in bytes.
pub fn too_large(limit: u64) -> Problem {
    Problem::too_large(format!("La petición supera el máximo de {limit} bytes"))
}

/// 408: the client stopped sending.
pub fn slow_client(waited: Duration) -> Problem {
    Problem::of(StatusCode::REQUEST_TIMEOUT)
        .with_details(format!("El cuerpo no terminó de llegar en {} ms", waited.as_millis()))
}

/// 408: the client sends less than so many bytes a second.
pub fn too_slow(rate: u64) -> Problem {
    Problem::of(StatusCode::REQUEST_TIMEOUT)
        .with_details(format!("El cuerpo llega a menos de {rate} bytes por segundo"))
}

/// 400: the client went away, or what it sent is not HTTP.
pub fn broken_body(cause: impl Into<anyhow::Error>) -> Problem {
    Problem::bad_request("incomplete_body", "El cuerpo de la petición llegó incompleto").because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn causes_do_not_show_the_url() -> anyhow::Result<()> {
        let failed = || async {
            // Nobody listens on port 1.
            let url = "http://127.0.0.1:1/api/v1/suppressions/6121004768?telefono=6121004768";
            chassis::http_client().get(url).send().await.err().ok_or_else(|| anyhow::anyhow!("a failure"))
        };
        assert!(failed().await?.to_string().contains("6121004768"), "as reqwest has it");
        for problem in [
            not_connected(Backend::SmsDispatch, Duration::ZERO, failed().await?),
            broke_off(Backend::SmsDispatch, failed().await?),
        ] {
            let cause = problem.cause().map(|cause| format!("{cause:#}")).unwrap_or_default();
            assert!(!cause.is_empty() && !cause.contains("6121004768"), "{cause}");
        }
        Ok(())
    }
}
