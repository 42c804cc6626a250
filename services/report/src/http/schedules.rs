//! Scheduled reports.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{ApiResult, Problem, auth::Caller, http::Json};
use chrono::{DateTime, Utc};
use schedules::{Missed, Schedule, http};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Resources, may_read, may_write, reports::Form};
use crate::domain::params::Params;

/// Cuándo, y qué.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSchedule {
    /// Cinco campos: minuto, hora, día, mes y día de la semana. Cada ejecución reporta el día anterior.
    cron: String,
    /// Con qué reloj: el del servicio si falta.
    zona_horaria: Option<String>,
    /// Qué se hace con las horas en las que el servicio no estaba en marcha.
    #[serde(default)]
    si_se_pierde: Missed,
    #[serde(default)]
    parametros: Form,
    #[serde(default = "yes")]
    activo: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScheduleView {
    id: Uuid,
    cron: String,
    zona_horaria: String,
    si_se_pierde: Missed,
    parametros: Params,
    activo: bool,
    /// Nulo si no está activa.
    proxima: Option<DateTime<Utc>>,
    ultima: Option<DateTime<Utc>>,
    ultimo_reporte: Option<Uuid>,
    ultimo_error: Option<String>,
    creado_por: String,
    version: i64,
}

impl TryFrom<Schedule> for ScheduleView {
    type Error = Problem;

    fn try_from(schedule: Schedule) -> Result<Self, Problem> {
        Ok(Self {
            id: schedule.id,
            cron: schedule.cron,
            zona_horaria: schedule.zone,
            si_se_pierde: schedule.missed,
            parametros: serde_json::from_value(schedule.params).map_err(Problem::internal)?,
            activo: schedule.active,
            proxima: Some(schedule.next_at).filter(|_| schedule.active),
            ultima: schedule.last_at,
            ultimo_reporte: schedule.last_run,
            ultimo_error: schedule.last_error,
            creado_por: schedule.created_by,
            version: schedule.version,
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Schedules {
    items: Vec<ScheduleView>,
}

async fn put(
    api: &Resources,
    caller: &Caller,
    id: Option<Uuid>,
    new: NewSchedule,
) -> Result<Schedule, Problem> {
    let schedule = http::NewSchedule {
        cron: new.cron,
        zone: new.zona_horaria.unwrap_or_else(|| api.settings.zone.name().to_owned()),
        missed: new.si_se_pierde,
        params: new.parametros.params()?,
        active: new.activo,
        created_by: caller.id().to_owned(),
    };
    schedule.put(&api.database.orm, id).await
}

/// A new schedule.
#[utoipa::path(
    operation_id = "schedules_create", summary = "Crear una programación",
    description = "",
    post, path = "/api/v1/reports/schedules", tag = "report", request_body = NewSchedule,
    responses((status = 201, body = ScheduleView), (status = 422))
)]
pub(super) async fn create(api: Data<Resources>, caller: Caller, body: Json<NewSchedule>) -> ApiResult {
    may_write(&caller)?;
    let schedule = put(&api, &caller, None, body.into_inner()).await?;
    let url = format!("/api/v1/reports/schedules/{}", schedule.id);
    Ok(HttpResponse::Created().insert_header(("Location", url)).json(ScheduleView::try_from(schedule)?))
}

/// All schedules.
#[utoipa::path(
    operation_id = "schedules_list", summary = "Listar programaciones",
    description = "Todas.",
    get, path = "/api/v1/reports/schedules", tag = "report",
    responses((status = 200, body = Schedules))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_read(&caller)?;
    let items = schedules::list(&api.database.orm).await?;
    let items = items.into_iter().map(ScheduleView::try_from).collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(Schedules { items }))
}

/// A schedule.
#[utoipa::path(
    operation_id = "schedules_get", summary = "Ver una programación",
    description = "",
    get, path = "/api/v1/reports/schedules/{id}", tag = "report", params(("id" = String, Path)),
    responses((status = 200, body = ScheduleView))
)]
pub(super) async fn get(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    Ok(HttpResponse::Ok().json(ScheduleView::try_from(http::named(&api.database.orm, &id).await?)?))
}

/// Other settings for a schedule.
#[utoipa::path(
    operation_id = "schedules_replace", summary = "Reemplazar una programación",
    description = "Lo que falta toma su valor por defecto.",
    put, path = "/api/v1/reports/schedules/{id}", tag = "report", params(("id" = String, Path)),
    request_body = NewSchedule,
    responses((status = 200, body = ScheduleView), (status = 422))
)]
pub(super) async fn replace(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    body: Json<NewSchedule>,
) -> ApiResult {
    may_write(&caller)?;
    let id = http::named(&api.database.orm, &id).await?.id;
    let schedule = put(&api, &caller, Some(id), body.into_inner()).await?;
    Ok(HttpResponse::Ok().json(ScheduleView::try_from(schedule)?))
}

/// No more of its runs. Those that it began stay.
#[utoipa::path(
    operation_id = "schedules_delete", summary = "Eliminar una programación",
    description = "Los reportes que inició quedan.",
    delete, path = "/api/v1/reports/schedules/{id}", tag = "report", params(("id" = String, Path)),
    responses((status = 204))
)]
pub(super) async fn delete(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_write(&caller)?;
    http::delete(&api.database.orm, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}
