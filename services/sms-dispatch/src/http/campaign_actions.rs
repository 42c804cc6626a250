//! What campaigns are told to do.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use chassis::{
    Problem,
    auth::{Caller, Role},
    http::{IfMatch, Json, request_id},
};
use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, sqlx::PgConnection};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Resources,
    campaign_view::CampaignView,
    campaigns::{locked, may_write, refused, shown},
};
use crate::{
    campaigns::{self, Refused},
    domain::campaign::Action,
    storage::{
        audit,
        campaigns::{self as rows, ActiveModel, Campaign},
        preview, segments,
        slices::{self, Wait},
    },
};

const APPROVE: &str = "campaigns:approve";

/// Does one thing to a campaign, in a transaction.
async fn act(
    api: &Resources,
    caller: &Caller,
    id: &str,
    expected: IfMatch,
    action: Action,
    change: ActiveModel,
) -> Result<HttpResponse, Problem> {
    may_write(caller)?;
    let mut transaction = api.database.pool.begin().await?;
    let campaign = locked(&mut transaction, id, expected).await?;
    let changed = campaigns::act(&mut transaction, &campaign, action, caller.id(), change).await;
    let changed = changed.map_err(refused)?;
    transaction.commit().await?;
    Ok(shown(StatusCode::OK, changed))
}

/// Refuses a large campaign that nobody but its last editor has looked at.
async fn approved(api: &Resources, conn: &mut PgConnection, campaign: &Campaign) -> Result<(), Problem> {
    if let (Some(by), Some(at)) = (&campaign.approved_by, campaign.approved_at)
        && *by != campaign.edited_by
        && !campaigns::audience_changed(conn, campaign, at).await.map_err(refused)?
    {
        return Ok(());
    }
    let audience = &campaign.plan.audience;
    let filter = match (&audience.filter, audience.segment_id) {
        (Some(filter), _) => filter.clone(),
        (None, Some(id)) => {
            let kept = segments::lock(conn, id).await?;
            kept.ok_or_else(|| refused(Refused::NoSegment(id)))?.filter
        }
        (None, None) => return Ok(()),
    };
    let found = preview::preview(conn, &filter, Utc::now()).await?;
    let count = filter.of(found.by_state.values().sum());
    if count <= api.sms.approve_above {
        return Ok(());
    }
    let detail = format!(
        "La campaña llega a unos {count} contactos: por encima de {} la aprueba alguien distinto de quien la editó",
        api.sms.approve_above
    );
    Err(Problem::conflict("needs_approval", detail))
}

/// Begins a campaign.
#[utoipa::path(
    operation_id = "campaigns_start", summary = "Iniciar una campaña",
    description = "Congela texto, audiencia, remitentes y precios, y escribe la lista de mensajes; luego se envían.",
    post, path = "/api/v1/campaigns/{id}/start", tag = "campaigns",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "El ETag leído: si la campaña cambió desde entonces, 412")),
    responses((status = 202, body = CampaignView), (status = 409, description = "Su estado no lo admite, o falta la aprobación"), (status = 412), (status = 422))
)]
pub(super) async fn start(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
) -> Result<HttpResponse, Problem> {
    may_write(&caller)?;
    let mut transaction = api.database.pool.begin().await?;
    let campaign = locked(&mut transaction, &id, expected).await?;
    approved(&api, &mut transaction, &campaign).await?;
    let started = campaigns::start(&mut transaction, &campaign, caller.id(), request_id()).await;
    let started = started.map_err(refused)?;
    transaction.commit().await?;
    Ok(shown(StatusCode::ACCEPTED, started))
}

/// Has a campaign begin by itself.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Schedule {
    /// Null takes it back: the campaign is a draft again.
    start_at: Option<DateTime<Utc>>,
    /// A start that comes later than this does not happen.
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
}

/// Has a campaign begin by itself at its time, or not any more.
#[utoipa::path(
    operation_id = "campaigns_schedule", summary = "Programar una campaña",
    description = "Inicia por sí sola a su hora; pasada expires_at ya no inicia. Sin start_at vuelve a ser borrador.",
    post, path = "/api/v1/campaigns/{id}/schedule", tag = "campaigns", request_body = Schedule,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "El ETag leído: si la campaña cambió desde entonces, 412")),
    responses((status = 200, body = CampaignView), (status = 409, description = "Su estado no lo admite, o falta la aprobación"), (status = 412), (status = 422))
)]
pub(super) async fn schedule(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
    body: Json<Schedule>,
) -> Result<HttpResponse, Problem> {
    may_write(&caller)?;
    let Schedule { start_at, expires_at } = body.into_inner();
    let change = ActiveModel { start_at: Set(start_at), expires_at: Set(expires_at), ..Default::default() };
    let Some(at) = start_at else {
        return act(&api, &caller, &id, expected, Action::Unschedule, change).await;
    };
    if at <= Utc::now() || expires_at.is_some_and(|expires| expires <= at) {
        let detail = "start_at debe estar en el futuro, y expires_at después de start_at";
        return Err(Problem::unprocessable("invalid_schedule", detail));
    }
    let mut transaction = api.database.pool.begin().await?;
    let campaign = locked(&mut transaction, &id, expected).await?;
    approved(&api, &mut transaction, &campaign).await?;
    let changed = campaigns::act(&mut transaction, &campaign, Action::Schedule, caller.id(), change).await;
    let changed = changed.map_err(refused)?;
    transaction.commit().await?;
    Ok(shown(StatusCode::OK, changed))
}

/// Says that somebody else than its editor has looked at a campaign.
#[utoipa::path(
    operation_id = "campaigns_approve", summary = "Aprobar una campaña",
    description = "La aprueba alguien distinto de quien la editó; cualquier cambio anula la aprobación.",
    post, path = "/api/v1/campaigns/{id}/approve", tag = "campaigns",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "El ETag leído: si la campaña cambió desde entonces, 412")),
    responses((status = 200, body = CampaignView), (status = 409, description = "No es un borrador, o quien aprueba es quien la editó"), (status = 412))
)]
pub(super) async fn approve(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
) -> Result<HttpResponse, Problem> {
    caller.require(&[Role::Admin, Role::Operator])?;
    caller.require_scope(APPROVE)?;
    let mut transaction = api.database.pool.begin().await?;
    let campaign = locked(&mut transaction, &id, expected).await?;
    if campaign.state.after(Action::Schedule).is_none() {
        return Err(refused(Refused::State(campaign.state)));
    }
    if campaign.edited_by == caller.id() {
        let detail = "La aprueba alguien distinto de quien la editó por última vez";
        return Err(Problem::conflict("same_editor", detail));
    }
    let change = ActiveModel {
        approved_by: Set(Some(caller.id().to_owned())),
        approved_at: Set(Some(Utc::now())),
        ..Default::default()
    };
    let changed = rows::change(&mut transaction, campaign.id, change).await?;
    let details = json!({ "version": campaign.version });
    audit::record(&mut transaction, caller.id(), "campaign_approved", Some(&id), &details).await?;
    transaction.commit().await?;
    Ok(shown(StatusCode::OK, changed))
}

/// Stops sending until further notice.
#[utoipa::path(
    operation_id = "campaigns_pause", summary = "Pausar una campaña",
    description = "Lo que ya está en camino al proveedor termina; nada más sale.",
    post, path = "/api/v1/campaigns/{id}/pause", tag = "campaigns",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "El ETag leído: si la campaña cambió desde entonces, 412")),
    responses((status = 200, body = CampaignView), (status = 409, description = "Su estado no lo admite"), (status = 412))
)]
pub(super) async fn pause(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
) -> Result<HttpResponse, Problem> {
    let reason = format!("Pausada por {}", caller.id());
    let change = ActiveModel { reason: Set(Some(reason)), ..Default::default() };
    act(&api, &caller, &id, expected, Action::Pause, change).await
}

/// Sends on.
#[utoipa::path(
    operation_id = "campaigns_resume", summary = "Reanudar una campaña",
    description = "Si esperaba los reportes de sus primeros mensajes, sigue sin ellos.",
    post, path = "/api/v1/campaigns/{id}/resume", tag = "campaigns",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "El ETag leído: si la campaña cambió desde entonces, 412")),
    responses((status = 200, body = CampaignView), (status = 409, description = "Su estado no lo admite"), (status = 412))
)]
pub(super) async fn resume(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
) -> Result<HttpResponse, Problem> {
    may_write(&caller)?;
    let mut transaction = api.database.pool.begin().await?;
    let campaign = locked(&mut transaction, &id, expected).await?;
    let mut change = ActiveModel { reason: Set(None), ..Default::default() };
    // Somebody has looked at what was sent first.
    if campaign.waiting.as_deref() == Some(Wait::Ramp.name()) {
        change.ramped_at = Set(Some(Utc::now()));
    }
    let changed = campaigns::act(&mut transaction, &campaign, Action::Resume, caller.id(), change).await;
    let changed = changed.map_err(refused)?;
    transaction.commit().await?;
    Ok(shown(StatusCode::OK, changed))
}

/// Ends a campaign before its time.
#[utoipa::path(
    operation_id = "campaigns_cancel", summary = "Cancelar una campaña",
    description = "Lo que ya está en camino al proveedor termina; los demás mensajes quedan cancelados, por lotes.",
    post, path = "/api/v1/campaigns/{id}/cancel", tag = "campaigns",
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "El ETag leído: si la campaña cambió desde entonces, 412")),
    responses((status = 200, body = CampaignView), (status = 409, description = "Su estado no lo admite"), (status = 412))
)]
pub(super) async fn cancel(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
) -> Result<HttpResponse, Problem> {
    may_write(&caller)?;
    let mut transaction = api.database.pool.begin().await?;
    let campaign = locked(&mut transaction, &id, expected).await?;
    let reason = format!("Cancelada por {}", caller.id());
    let change = ActiveModel { reason: Set(Some(reason)), ..Default::default() };
    let cancelled = campaigns::act(&mut transaction, &campaign, Action::Cancel, caller.id(), change).await;
    let cancelled = cancelled.map_err(refused)?;
    // Those that wait for their hour are settled now.
    slices::hurry(&mut transaction, cancelled.number).await?;
    // A job that writes its ledger finds at its next window that it is cancelled.
    transaction.commit().await?;
    Ok(shown(StatusCode::OK, cancelled))
}
