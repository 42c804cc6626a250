//! What campaigns are told to do.

use actix_web::{http::StatusCode, web::Data};
use chassis::{
    ApiResult, Problem,
    auth::{Caller, Role},
    http::{Json, Versioned, request_id},
};
use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::ActiveValue::Set;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    Resources,
    campaign_view::CampaignView,
    campaigns::{locked, may_write, refused, shown},
};
use crate::{
    approvals, campaigns,
    config::SmsSettings,
    domain::{campaign::Action, own_hour::OwnHour},
    start_campaign::start_campaign,
    storage::{
        audit,
        campaigns::{self as rows, ActiveModel, Campaign},
        slices::{self, Wait},
    },
};

const APPROVE: &str = "campaigns:approve";

/// Does one thing to a campaign, in a transaction.
async fn act(
    api: &Resources,
    caller: &Caller,
    target: &Versioned,
    action: Action,
    change: ActiveModel,
) -> ApiResult {
    may_write(caller)?;
    let (mut transaction, campaign) = locked(api, target).await?;
    let changed = campaigns::act(&mut transaction, &campaign, action, caller.id(), change).await;
    let changed = changed.map_err(refused)?;
    transaction.commit().await?;
    Ok(shown(StatusCode::OK, changed))
}

/// Begins a campaign.
#[utoipa::path(
    operation_id = "campaigns_start", summary = "Iniciar una campaña",
    description = "Congela texto, audiencia, remitentes y precios, y escribe la lista de mensajes; luego se envían.",
    post, path = "/api/v1/campaigns/{id}/start", tag = "campaigns",
    params(Versioned),
    responses((status = 202, body = CampaignView), (status = 409, description = "Su estado no lo admite, o falta la aprobación"), (status = 412), (status = 422))
)]
pub(super) async fn start(api: Data<Resources>, caller: Caller, target: Versioned) -> ApiResult {
    may_write(&caller)?;
    let (mut transaction, campaign) = locked(&api, &target).await?;
    approvals::check(&mut transaction, &api.sms, &campaign).await.map_err(refused)?;
    // Who starts it does not wait for the hour that it was scheduled for.
    let campaign = Campaign { own_date: None, own_minute: None, ..campaign };
    let started =
        start_campaign(&mut transaction, &campaign, caller.id(), request_id(), &api.sms.public_url).await;
    let started = started.map_err(refused)?;
    transaction.commit().await?;
    Ok(shown(StatusCode::ACCEPTED, started))
}

/// Cuándo inicia una campaña por sí sola.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Schedule {
    /// Cuándo inicia para todos. Null, sin `at_local`, lo retira: la campaña vuelve a ser un borrador.
    start_at: Option<DateTime<Utc>>,
    /// En lugar de `start_at`: la hora de cada destinatario a la que se le escribe, como `10:00`, dentro del horario de envío.
    #[serde(default)]
    at_local: Option<String>,
    /// El día de `at_local`: `2026-12-01`.
    #[serde(default)]
    local_date: Option<NaiveDate>,
    /// Después de esta hora ya no inicia. Con `at_local`, posterior a esa hora en la última zona.
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
}

/// When a campaign begins, and at which hour of its recipients it goes where that is said; none to take it back.
type Time = Option<(DateTime<Utc>, Option<OwnHour>)>;

impl Schedule {
    /// # Errors
    /// A time that is none, or lies behind us; an hour in which nobody may be written to.
    fn time(&self, now: DateTime<Utc>, settings: &SmsSettings) -> Result<Time, Problem> {
        let refused = |detail: &str| Problem::unprocessable("invalid_schedule", detail);
        let (first, last, hour) = match (self.start_at, &self.at_local, self.local_date) {
            (None, None, None) => return Ok(None),
            (Some(at), None, None) => (at, at, None),
            (None, Some(text), Some(date)) => {
                let hour = OwnHour::parse(date, text);
                let hour = hour.ok_or_else(|| refused("at_local es una hora del día, como 10:00"))?;
                if settings.hours.is_some_and(|hours| !hour.is_within(hours)) {
                    return Err(refused("at_local debe estar dentro del horario de envío, de 09:00 a 20:00"));
                }
                let (first, last) =
                    hour.first_and_last().ok_or_else(|| refused("local_date no es un día con esa hora"))?;
                (first, last, Some(hour))
            }
            _ => return Err(refused("La programación lleva start_at, o at_local con local_date")),
        };
        if first <= now || self.expires_at.is_some_and(|expires| expires <= last) {
            let detail = match hour {
                None => "start_at debe estar en el futuro, y expires_at después de start_at",
                Some(_) => {
                    "at_local debe estar en el futuro en todas las zonas, y expires_at después de esa hora en la última"
                }
            };
            return Err(refused(detail));
        }
        Ok(Some((first, hour)))
    }
}

/// Has a campaign begin by itself at its time, or not any more.
#[utoipa::path(
    operation_id = "campaigns_schedule", summary = "Programar una campaña",
    description = "Inicia por sí sola a su hora, o escribe a cada destinatario a la hora de su propio reloj; pasada expires_at ya no inicia, ni si para entonces creció tanto que necesita una aprobación que no tiene. Sin start_at ni at_local vuelve a ser borrador.",
    post, path = "/api/v1/campaigns/{id}/schedule", tag = "campaigns", request_body = Schedule,
    params(Versioned),
    responses((status = 200, body = CampaignView), (status = 409, description = "Su estado no lo admite, o falta la aprobación"), (status = 412), (status = 422))
)]
pub(super) async fn schedule(
    api: Data<Resources>,
    caller: Caller,
    target: Versioned,
    body: Json<Schedule>,
) -> ApiResult {
    may_write(&caller)?;
    let time = body.time(Utc::now(), &api.sms)?;
    let own_hour = time.and_then(|(_, hour)| hour);
    let change = ActiveModel {
        start_at: Set(time.map(|(at, _)| at)),
        own_date: Set(own_hour.map(|hour| hour.date)),
        own_minute: Set(own_hour.map(|hour| hour.minute)),
        expires_at: Set(body.expires_at),
        ..Default::default()
    };
    if time.is_none() {
        return act(&api, &caller, &target, Action::Unschedule, change).await;
    }
    let (mut transaction, campaign) = locked(&api, &target).await?;
    approvals::check(&mut transaction, &api.sms, &campaign).await.map_err(refused)?;
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
    params(Versioned),
    responses((status = 200, body = CampaignView), (status = 409, description = "No es un borrador, o quien aprueba es quien la editó"), (status = 412))
)]
pub(super) async fn approve(api: Data<Resources>, caller: Caller, target: Versioned) -> ApiResult {
    caller.require(&[Role::Admin, Role::Operator])?;
    caller.require_scope(APPROVE)?;
    let (mut transaction, campaign) = locked(&api, &target).await?;
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
    audit::record(&mut transaction, caller.id(), "campaign_approved", Some(&target.id), &details).await?;
    transaction.commit().await?;
    Ok(shown(StatusCode::OK, changed))
}

/// Stops sending until further notice.
#[utoipa::path(
    operation_id = "campaigns_pause", summary = "Pausar una campaña",
    description = "Lo que ya está en camino al proveedor termina; nada más sale.",
    post, path = "/api/v1/campaigns/{id}/pause", tag = "campaigns",
    params(Versioned),
    responses((status = 200, body = CampaignView), (status = 409, description = "Su estado no lo admite"), (status = 412))
)]
pub(super) async fn pause(api: Data<Resources>, caller: Caller, target: Versioned) -> ApiResult {
    let reason = format!("Pausada por {}", caller.id());
    let change = ActiveModel { reason: Set(Some(reason)), ..Default::default() };
    act(&api, &caller, &target, Action::Pause, change).await
}

/// Sends on.
#[utoipa::path(
    operation_id = "campaigns_resume", summary = "Reanudar una campaña",
    description = "Si esperaba los reportes de sus primeros mensajes, sigue sin ellos.",
    post, path = "/api/v1/campaigns/{id}/resume", tag = "campaigns",
    params(Versioned),
    responses((status = 200, body = CampaignView), (status = 409, description = "Su estado no lo admite"), (status = 412))
)]
pub(super) async fn resume(api: Data<Resources>, caller: Caller, target: Versioned) -> ApiResult {
    may_write(&caller)?;
    let (mut transaction, campaign) = locked(&api, &target).await?;
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
    params(Versioned),
    responses((status = 200, body = CampaignView), (status = 409, description = "Su estado no lo admite"), (status = 412))
)]
pub(super) async fn cancel(api: Data<Resources>, caller: Caller, target: Versioned) -> ApiResult {
    may_write(&caller)?;
    let (mut transaction, campaign) = locked(&api, &target).await?;
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
    fn an_hour_of_the_recipients_is_a_quiet_one_that_has_come_nowhere_and_expires_nowhere_before() {
        let settings = SmsSettings::read(&mut chassis::config::Env::from_map([("SMS_QUIET_HOURS", "true")]));
        let now: DateTime<Utc> = "2026-11-26T14:59:00Z".parse().expect("a moment");
        let time = |start_at: Option<&str>, at_local: Option<&str>, expires_at: Option<&str>| {
            let moment = |text: Option<&str>| text.map(|text| text.parse().expect("a moment"));
            let schedule = Schedule {
                start_at: moment(start_at),
                at_local: at_local.map(str::to_owned),
                local_date: at_local.and_then(|_| NaiveDate::from_ymd_opt(2026, 11, 26)),
                expires_at: moment(expires_at),
            };
            schedule.time(now, &settings).map_err(|_| ())
        };
        let first = "2026-11-26T15:00:00Z";
        let ten = time(None, Some("10:00"), Some("2026-11-26T18:00:01Z")).expect("an hour").expect("a time");
        assert_eq!(ten.0.to_rfc3339(), "2026-11-26T15:00:00+00:00", "in Cancún it comes first");
        assert_eq!(ten.1.map(|hour| hour.to_string()).as_deref(), Some("10:00"));
        assert!(
            time(None, Some("10:00"), Some("2026-11-26T18:00:00Z")).is_err(),
            "in Tijuana it is 10:00 then"
        );
        assert!(time(None, Some("09:59"), None).is_err(), "it has come in Cancún");
        assert!(time(None, Some("20:00"), None).is_err() && time(None, Some("08:00"), None).is_err());
        assert!(time(Some(first), Some("10:00"), None).is_err(), "one or the other");
        assert_eq!(time(None, None, None), Ok(None));
        assert!(time(Some(first), None, None).is_ok() && time(Some(first), None, Some(first)).is_err());
    }
}
