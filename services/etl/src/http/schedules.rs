//! Syncs that begin by themselves.

use ::schedules::{BadSchedule, Missed, Schedule, Timetable};
use actix_web::{
    HttpResponse,
    web::{self, Data, Json, Path, ServiceConfig},
};
use chassis::{Problem, auth::Caller};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Resources, may_read, may_write};
use crate::{
    domain::run::Mode,
    scheduler::{Overlap, ScheduledSync},
};

pub fn configure(config: &mut ServiceConfig) {
    config
        .route("/api/v1/etl/schedules", web::get().to(list))
        .route("/api/v1/etl/schedules", web::post().to(create))
        .route("/api/v1/etl/schedules/{id}", web::get().to(get))
        .route("/api/v1/etl/schedules/{id}", web::put().to(replace))
        .route("/api/v1/etl/schedules/{id}", web::delete().to(delete));
}

/// When, and what.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSchedule {
    /// Five fields: minute, hour, day, month, day of the week.
    cron: String,
    /// Whose clock: the service's own unless told.
    zona_horaria: Option<String>,
    /// What becomes of times at which the service was not running.
    #[serde(default)]
    si_se_pierde: Missed,
    /// What becomes of a time at which what it began before has not ended.
    #[serde(default)]
    si_se_superpone: Overlap,
    /// `bsale`, or one stream.
    fuente: String,
    modo: Mode,
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
    si_se_superpone: Overlap,
    fuente: String,
    modo: Mode,
    activo: bool,
    /// Null where it is not active.
    proxima: Option<DateTime<Utc>>,
    ultima: Option<DateTime<Utc>>,
    ultima_ejecucion: Option<Uuid>,
    ultimo_error: Option<String>,
    creado_por: String,
    version: i64,
}

impl TryFrom<Schedule> for ScheduleView {
    type Error = Problem;

    fn try_from(schedule: Schedule) -> Result<Self, Problem> {
        let sync: ScheduledSync = serde_json::from_value(schedule.params).map_err(Problem::internal)?;
        Ok(Self {
            id: schedule.id,
            cron: schedule.cron,
            zona_horaria: schedule.zone,
            si_se_pierde: schedule.missed,
            si_se_superpone: sync.overlap,
            fuente: sync.source,
            modo: sync.mode,
            activo: schedule.active,
            proxima: Some(schedule.next_at).filter(|_| schedule.active),
            ultima: schedule.last_at,
            ultima_ejecucion: schedule.last_run,
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

fn refused(error: BadSchedule) -> Problem {
    Problem::unprocessable("invalid_schedule", error.to_string())
}

async fn put(api: &Resources, caller: &Caller, id: Uuid, new: NewSchedule) -> Result<Schedule, Problem> {
    let zone = new.zona_horaria.unwrap_or_else(|| api.settings.zone.name().to_owned());
    let timetable = Timetable::parse(&new.cron, &zone).map_err(refused)?;
    let sync = ScheduledSync { source: new.fuente, mode: new.modo, overlap: new.si_se_superpone };
    if sync.streams().is_empty() || sync.mode == Mode::Backfill {
        let detail = format!("fuente {:?} y modo {:?} no inician nada", sync.source, sync.mode.name());
        return Err(Problem::unprocessable("invalid_schedule", detail));
    }
    let schedule = Schedule {
        id,
        next_at: timetable.next(Utc::now()).map_err(refused)?,
        cron: new.cron,
        zone,
        missed: new.si_se_pierde,
        params: serde_json::to_value(sync).map_err(Problem::internal)?,
        active: new.activo,
        last_at: None,
        last_run: None,
        last_error: None,
        created_by: caller.id().to_owned(),
        version: 1,
    };
    Ok(::schedules::put(&api.database.pool, &schedule).await?)
}

fn not_found(id: &str) -> Problem {
    Problem::not_found(format!("Programación {id} no encontrada"))
}

async fn named(api: &Resources, id: &str) -> Result<Schedule, Problem> {
    let uuid = Uuid::parse_str(id).map_err(|_| not_found(id))?;
    ::schedules::get(&api.database.pool, uuid).await?.ok_or_else(|| not_found(id))
}

/// All schedules.
#[utoipa::path(
    get, path = "/api/v1/etl/schedules", tag = "etl",
    responses((status = 200, body = Schedules), (status = 401), (status = 403)),
    security(("bearer" = []))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller) -> Result<HttpResponse, Problem> {
    may_read(&caller)?;
    let items = ::schedules::list(&api.database.pool).await?;
    let items = items.into_iter().map(ScheduleView::try_from).collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(Schedules { items }))
}

/// A new schedule.
#[utoipa::path(
    post, path = "/api/v1/etl/schedules", tag = "etl", request_body = NewSchedule,
    responses((status = 201, body = ScheduleView), (status = 400), (status = 401), (status = 403), (status = 422)),
    security(("bearer" = []))
)]
pub(super) async fn create(
    api: Data<Resources>,
    caller: Caller,
    body: Json<NewSchedule>,
) -> Result<HttpResponse, Problem> {
    may_write(&caller)?;
    let schedule = put(&api, &caller, Uuid::now_v7(), body.into_inner()).await?;
    let url = format!("/api/v1/etl/schedules/{}", schedule.id);
    Ok(HttpResponse::Created().insert_header(("Location", url)).json(ScheduleView::try_from(schedule)?))
}

/// A schedule.
#[utoipa::path(
    get, path = "/api/v1/etl/schedules/{id}", tag = "etl", params(("id" = String, Path)),
    responses((status = 200, body = ScheduleView), (status = 401), (status = 403), (status = 404)),
    security(("bearer" = []))
)]
pub(super) async fn get(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    may_read(&caller)?;
    Ok(HttpResponse::Ok().json(ScheduleView::try_from(named(&api, &id).await?)?))
}

/// Other settings for a schedule. It does not fire for times that passed before.
#[utoipa::path(
    put, path = "/api/v1/etl/schedules/{id}", tag = "etl", params(("id" = String, Path)),
    request_body = NewSchedule,
    responses(
        (status = 200, body = ScheduleView), (status = 400), (status = 401), (status = 403), (status = 404),
        (status = 422),
    ),
    security(("bearer" = []))
)]
pub(super) async fn replace(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    body: Json<NewSchedule>,
) -> Result<HttpResponse, Problem> {
    may_write(&caller)?;
    let id = named(&api, &id).await?.id;
    Ok(HttpResponse::Ok().json(ScheduleView::try_from(put(&api, &caller, id, body.into_inner()).await?)?))
}

/// No more of its runs. Those that it began stay.
#[utoipa::path(
    delete, path = "/api/v1/etl/schedules/{id}", tag = "etl", params(("id" = String, Path)),
    responses((status = 204), (status = 401), (status = 403), (status = 404)),
    security(("bearer" = []))
)]
pub(super) async fn delete(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    may_write(&caller)?;
    let uuid = Uuid::parse_str(&id).map_err(|_| not_found(&id))?;
    if ::schedules::delete(&api.database.pool, uuid).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(not_found(&id))
    }
}
