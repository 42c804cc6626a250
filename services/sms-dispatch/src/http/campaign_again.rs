//! What a person decides about messages that nothing else ends.

use actix_web::{HttpResponse, web::Data};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Json, OptionalJson, Versioned},
};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Resources,
    campaigns::{locked, may_write, refused},
};
use crate::again::{self, Order, Which};

/// How long a provider may keep a message in its queue, in minutes: until then nothing follows from silence.
const QUEUED: i64 = 240;

/// Mensajes de los que nadie sabe si salieron.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolve {
    action: Resolution,
    /// Solo aquellos de los que nada se sabe desde hace tantos minutos; si falta, 240, lo que un proveedor puede retener.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000)]
    older_than_minutes: Option<i64>,
    /// Solo los que siguen a esta posición: el `next` de la respuesta anterior.
    #[serde(default)]
    #[schema(minimum = 0)]
    after: Option<i32>,
    /// Solo los cuenta, por horas enteras.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Resolution {
    /// Los envía otra vez: quien ya lo tiene lo recibe dos veces.
    Resend,
    /// Los cuenta como fallidos.
    GiveUp,
}

/// Mensajes que fallaron.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryFailed {
    /// Solo los que siguen a esta posición: el `next` de la respuesta anterior.
    #[serde(default)]
    #[schema(minimum = 0)]
    after: Option<i32>,
    /// Solo los cuenta.
    #[serde(default)]
    dry_run: bool,
}

/// El resultado.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DecidedView {
    messages: i64,
    /// Una petición mira y decide solo tantos mensajes: repítala con `next` como `after`.
    more: bool,
    next: Option<i32>,
    dry_run: bool,
}

async fn decide(
    api: &Resources,
    caller: &Caller,
    target: &Versioned,
    (which, order): (Which, Order),
    after: Option<i32>,
    dry_run: bool,
) -> ApiResult {
    may_write(caller)?;
    let (mut transaction, campaign) = locked(api, target).await?;
    let after = after.unwrap_or_default().max(0);
    let decided = again::decide(&mut transaction, &campaign, which, order, after, dry_run, caller.id()).await;
    let decided = decided.map_err(refused)?;
    transaction.commit().await?;
    let again::Decided { messages, next, tally } = decided;
    tally.count();
    Ok(HttpResponse::Ok().json(DecidedView { messages, more: next.is_some(), next, dry_run }))
}

/// Decides about messages of which nobody knows whether they went out.
#[utoipa::path(
    operation_id = "campaigns_resolve", summary = "Resolver mensajes desconocidos",
    description = "Los que quedaron sin respuesta del proveedor: se reenvían (quien ya lo tiene lo recibe dos veces) o se dan por perdidos.",
    post, path = "/api/v1/campaigns/{id}/resolve", tag = "campaigns", request_body = Resolve,
    params(Versioned),
    responses((status = 200, body = DecidedView), (status = 409, description = "Su estado no lo admite"), (status = 412), (status = 422))
)]
pub(super) async fn resolve(
    api: Data<Resources>,
    caller: Caller,
    target: Versioned,
    body: Json<Resolve>,
) -> ApiResult {
    may_write(&caller)?;
    let Resolve { action, older_than_minutes, after, dry_run } = body.into_inner();
    let minutes = older_than_minutes.unwrap_or(QUEUED);
    if !(0..=1_000_000).contains(&minutes) {
        let detail = format!("older_than_minutes es {minutes}; se espera de 0 a 1000000");
        return Err(Problem::unprocessable("invalid_minutes", detail));
    }
    let order = match action {
        Resolution::Resend => Order::Resend,
        Resolution::GiveUp => Order::GiveUp,
    };
    let which = Which::Unknown { since: TimeDelta::minutes(minutes) };
    decide(&api, &caller, &target, (which, order), after, dry_run).await
}

/// Sends again what failed.
#[utoipa::path(
    operation_id = "campaigns_retry_failed", summary = "Reintentar los mensajes fallidos",
    description = "Los fallidos y vencidos cuyo código lo permite, con un intento más; una campaña completada vuelve a correr.",
    post, path = "/api/v1/campaigns/{id}/retry-failed", tag = "campaigns", request_body = RetryFailed,
    params(Versioned),
    responses((status = 200, body = DecidedView), (status = 409, description = "Su estado no lo admite"), (status = 412))
)]
pub(super) async fn retry_failed(
    api: Data<Resources>,
    caller: Caller,
    target: Versioned,
    body: OptionalJson<RetryFailed>,
) -> ApiResult {
    let RetryFailed { after, dry_run } = body.0.unwrap_or_default();
    decide(&api, &caller, &target, (Which::Failed, Order::Resend), after, dry_run).await
}
