//! What campaigns are told to do.

use std::collections::BTreeMap;

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
    campaign_preview, campaigns,
    domain::campaign::Action,
    storage::{
        audit,
        campaigns::{self as rows, ActiveModel, Campaign},
        preview,
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

/// Refuses a large or costly campaign that nobody but its last editor has looked at.
async fn approved(api: &Resources, conn: &mut PgConnection, campaign: &Campaign) -> Result<(), Problem> {
    if let (Some(by), Some(at)) = (&campaign.approved_by, campaign.approved_at)
        && *by != campaign.edited_by
        && !campaigns::audience_changed(conn, campaign, at).await.map_err(refused)?
    {
        return Ok(());
    }
    let now = Utc::now();
    let frozen = campaigns::freeze(conn, campaign, now, &api.sms.public_url).await.map_err(refused)?;
    let count = match &frozen.file {
        Some(file) => file.people,
        None => {
            let found = preview::preview(conn, &frozen.filter, now).await?;
            frozen.filter.of(found.by_state.values().sum())
        }
    };
    let bounds = Bounds { recipients: api.sms.approve_above, cost: api.sms.approve_above_cost };
    let worst = campaign_preview::worst_costs(campaign, &frozen).map_err(refused)?;
    match bounds.passed(count, &worst) {
        None => Ok(()),
        Some(what) => Err(Problem::conflict(
            "needs_approval",
            format!("La campaña {what}: la aprueba alguien distinto de quien la editó"),
        )),
    }
}

/// What a campaign may come to before somebody else than its last editor has looked at it.
struct Bounds {
    recipients: i64,
    /// In units of whatever currency.
    cost: i64,
}

impl Bounds {
    /// Which bound so many recipients pass, each at the worst cost, in millionths by currency. For people.
    fn passed(&self, recipients: i64, worst: &BTreeMap<String, i64>) -> Option<String> {
        if recipients > self.recipients {
            let most = self.recipients;
            return Some(format!("llega a unas {recipients} personas, por encima de {most}"));
        }
        let (currency, micros) = worst
            .iter()
            .map(|(currency, each)| (currency, each.saturating_mul(recipients)))
            .max_by_key(|cost| cost.1)?;
        let (units, most) = (micros / 1_000_000, self.cost);
        (micros > most.saturating_mul(1_000_000))
            .then(|| format!("puede costar hasta {units} {currency}, por encima de {most}"))
    }
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
    let started =
        campaigns::start(&mut transaction, &campaign, caller.id(), request_id(), &api.sms.public_url).await;
    let started = started.map_err(refused)?;
    transaction.commit().await?;
    Ok(shown(StatusCode::ACCEPTED, started))
}

/// Cuándo inicia una campaña por sí sola.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Schedule {
    /// Null lo retira: la campaña vuelve a ser un borrador.
    start_at: Option<DateTime<Utc>>,
    /// Después de esta hora ya no inicia.
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
        return Err(refused(campaigns::Refused::State(campaign.state)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_above_a_size_or_a_cost_needs_somebody_else() {
        let bounds = Bounds { recipients: 100, cost: 2 };
        let worst = |micros: i64| BTreeMap::from([("USD".to_owned(), micros), ("MXN".to_owned(), 1)]);
        assert_eq!(bounds.passed(100, &worst(20_000)), None, "2 USD, and not more");
        assert!(bounds.passed(100, &worst(20_001)).is_some_and(|what| what.contains("2 USD")));
        assert!(bounds.passed(101, &BTreeMap::new()).is_some_and(|what| what.contains("101 personas")));
        assert_eq!(bounds.passed(100, &BTreeMap::new()), None, "nobody said what it costs");
        assert!(bounds.passed(100, &worst(i64::MAX)).is_some());
    }
}
