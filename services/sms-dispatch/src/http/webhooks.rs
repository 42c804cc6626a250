//! What providers call: signed over the raw body, kept before they are answered, and applied by workers.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Bytes, Data},
};
use chassis::{ApiResult, Problem};
use chrono::Utc;

use super::Resources;
use crate::{
    domain::{
        sender::ProviderName,
        webhooks::{MAX_BODY, Webhook, WebhookError, telnyx, twilio},
    },
    storage::reports::{self, Report},
};

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

fn refused(error: WebhookError) -> Problem {
    match error {
        WebhookError::Body(what) => {
            tracing::warn!(what, "a provider's webhook is not understood");
            Problem::bad_request("invalid_webhook", "La notificación no se entiende")
        }
        // Whoever does not sign learns no more.
        WebhookError::Signature | WebhookError::Time => {
            Problem::new(StatusCode::FORBIDDEN, "invalid_signature", "La firma no es válida")
        }
    }
}

fn within_bounds(body: &Bytes) -> Result<&str, Problem> {
    if body.len() > MAX_BODY {
        return Err(Problem::of(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let text = std::str::from_utf8(body).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| Problem::bad_request("invalid_webhook", "La notificación no es texto UTF-8"))
}

/// Keeps what a webhook says. Answered only when it is durable.
async fn keep(api: &Resources, provider: ProviderName, webhook: Webhook, url: &str, body: &str) -> ApiResult {
    let (pool, name) = (&api.database.pool, provider.name());
    match webhook {
        Webhook::Status(status) if status.callback.is_some() => {
            let report = Report { provider: name, url: url.to_owned(), body: body.to_owned() };
            api.reports.keep(report).await?;
        }
        Webhook::Inbound(inbound) => {
            if let Some(phone) = inbound.from {
                let (from, id) = (phone.to_string(), inbound.provider_id);
                reports::keep_inbound(pool, name, id, &from, &inbound.to, &inbound.text).await?;
            }
        }
        // Nothing of ours, or no business of ours: acknowledged, for it would come again.
        Webhook::Status(_) | Webhook::Other(_) => {}
    }
    Ok(HttpResponse::Ok().finish())
}

/// Telnyx reports on a message, or hands one over.
#[utoipa::path(
    operation_id = "webhooks_telnyx", summary = "Recibir un aviso de Telnyx",
    description = "Autoriza la firma Ed25519 sobre el cuerpo tal como llega; se responde cuando está guardado.",
    post, path = "/webhooks/telnyx", tag = "campaigns",
    params(("message" = Option<String>, Query), ("attempt" = Option<String>, Query)),
    request_body(content = String, content_type = "application/json"),
    responses((status = 200), (status = 403, description = "La firma no es válida"), (status = 404)),
    security(())
)]
pub(super) async fn telnyx_webhook(api: Data<Resources>, request: HttpRequest, body: Bytes) -> ApiResult {
    let settings = api.sms.telnyx.as_ref().ok_or_else(|| Problem::of(StatusCode::NOT_FOUND))?;
    let text = within_bounds(&body)?;
    let (signature, timestamp) = (header(&request, telnyx::SIGNATURE), header(&request, telnyx::TIMESTAMP));
    telnyx::verify(settings.public_key, signature, timestamp, &body, Utc::now()).map_err(refused)?;
    // The message's id comes from the payload, which is signed; the address is not.
    let webhook = telnyx::parse(&body).map_err(refused)?;
    keep(&api, ProviderName::Telnyx, webhook, "", text).await
}

/// Twilio reports on a message, or hands one over.
#[utoipa::path(
    operation_id = "webhooks_twilio", summary = "Recibir un aviso de Twilio",
    description = "Autoriza la firma sobre la dirección pública y los campos; se responde cuando está guardado.",
    post, path = "/webhooks/twilio", tag = "campaigns",
    params(("message" = Option<String>, Query), ("attempt" = Option<String>, Query)),
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200), (status = 403, description = "La firma no es válida"), (status = 404)),
    security(())
)]
pub(super) async fn twilio_webhook(api: Data<Resources>, request: HttpRequest, body: Bytes) -> ApiResult {
    let settings = api.sms.twilio.as_ref().ok_or_else(|| Problem::of(StatusCode::NOT_FOUND))?;
    let text = within_bounds(&body)?;
    // The address as Twilio was given it: what a proxy says of host and scheme is not signed.
    let url = match request.query_string() {
        "" => format!("{}/webhooks/twilio", api.sms.public_url),
        query => format!("{}/webhooks/twilio?{query}", api.sms.public_url),
    };
    let signature = header(&request, twilio::SIGNATURE);
    twilio::verify(settings.auth_token.expose(), signature, &url, &body).map_err(refused)?;
    let webhook = twilio::parse(&url, &body, Utc::now()).map_err(refused)?;
    keep(&api, ProviderName::Twilio, webhook, &url, text).await
}
