//! What the users' cloud scheduler calls.

use actix_web::{HttpResponse, web::Data};
use chassis::{ApiResult, Problem, auth::Caller, http::Query};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Resources,
    begun::{Begun, begin},
    legacy::entity,
    may_read, may_write,
};
use crate::{
    bsale::STREAMS,
    domain::run::{Mode, RunParams},
    target,
};

/// Como lo lee el programador de los usuarios. La ejecución sigue después de `end_time`, que es cuando se
/// aceptó.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Executed {
    /// `success`.
    status: &'static str,
    message: String,
    start_time: DateTime<Utc>,
    end_time: DateTime<Utc>,
    duration_seconds: f64,
    /// Quién lo pidió.
    executed_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    days_processed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_date: Option<NaiveDate>,
    #[serde(flatten)]
    begun: Begun,
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Incremental {
    /// Días de documentos, de 1 a 365.
    #[serde(default = "one_day")]
    #[param(minimum = 1, maximum = 365)]
    days: u32,
}

const fn one_day() -> u32 {
    1
}

async fn run(api: &Resources, caller: &Caller, message: String, days: Option<u32>) -> ApiResult {
    may_write(caller)?;
    super::bsale(api)?;
    let start_time = Utc::now();
    let start_date = days.map(|days| start_time.date_naive() - chrono::Days::new(days.into()));
    let streams: Vec<_> = STREAMS.iter().filter(|stream| stream.daily).map(|stream| stream.name).collect();
    let begun = begin(api, caller, &streams, |stream| {
        let from = start_date.filter(|_| stream == "bsale.documentos");
        RunParams { from, ..RunParams::new(stream, Mode::Daily) }
    })
    .await?;
    let end_time = Utc::now();
    let duration_seconds = (end_time - start_time).as_seconds_f64();
    Ok(HttpResponse::Ok().json(Executed {
        status: "success",
        message,
        start_time,
        end_time,
        duration_seconds,
        executed_by: caller.id().to_owned(),
        days_processed: days,
        start_date,
        begun,
    }))
}

/// The daily sync.
#[utoipa::path(
    operation_id = "scheduler_daily", summary = "Sincronizar los documentos de siete días",
    description = "Para un programador externo.",
    post, path = "/api/v1/scheduler/etl/daily", tag = "etl",
    responses(
        (status = 200, body = Executed), (status = 404, description = "Esta instalación no tiene Bsale"),
    ),
)]
pub(super) async fn daily(api: Data<Resources>, caller: Caller) -> ApiResult {
    run(&api, &caller, "ETL diario iniciado".to_owned(), None).await
}

/// A daily sync that reads documents of so many days.
#[utoipa::path(
    operation_id = "scheduler_incremental", summary = "Sincronizar los documentos de unos días",
    description = "Para un programador externo.",
    post, path = "/api/v1/scheduler/etl/incremental", tag = "etl", params(Incremental),
    responses(
        (status = 200, body = Executed), (status = 404, description = "Esta instalación no tiene Bsale"),
    ),
)]
pub(super) async fn incremental(
    api: Data<Resources>,
    caller: Caller,
    query: Query<Incremental>,
) -> ApiResult {
    let days = chassis::http::in_range("days", query.days, 1, 365)?;
    run(&api, &caller, format!("ETL incremental de {days} días iniciado"), Some(days)).await
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SchedulerHealth {
    /// `healthy`.
    status: &'static str,
    timestamp: DateTime<Utc>,
    service: &'static str,
    bigquery_configured: bool,
    bsale_configured: bool,
}

/// What this installation is set up for.
#[utoipa::path(
    operation_id = "scheduler_health", summary = "Ver si hay fuentes configuradas",
    description = "",
    get, path = "/api/v1/scheduler/health", tag = "etl",
    responses((status = 200, body = SchedulerHealth)),
)]
pub(super) async fn health(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_read(&caller)?;
    Ok(HttpResponse::Ok().json(SchedulerHealth {
        status: "healthy",
        timestamp: Utc::now(),
        service: crate::SERVICE,
        bigquery_configured: api.bigquery.is_some(),
        bsale_configured: api.bsale.is_some(),
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct TestQuery {
    /// `clients`, `products`, `documents` o `all`.
    #[serde(default = "clients")]
    entity: String,
    /// Se acepta de quien lo envía; se cuentan tablas enteras.
    limit: Option<u32>,
}

fn clients() -> String {
    "clients".to_owned()
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tested {
    status: &'static str,
    entity: String,
    limit: Option<u32>,
    /// Filas por tabla.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    records: std::collections::BTreeMap<&'static str, u64>,
}

/// Whether the sales database answers, and how many rows an entity has there.
#[utoipa::path(
    operation_id = "scheduler_test", summary = "Probar la base de ventas",
    description = "Cuenta las filas que tiene de una entidad; no pregunta a Bsale ni escribe nada.",
    get, path = "/api/v1/scheduler/etl/test", tag = "etl", params(TestQuery),
    responses((status = 200, body = Tested), (status = 404)),
)]
pub(super) async fn test(api: Data<Resources>, caller: Caller, query: Query<TestQuery>) -> ApiResult {
    may_read(&caller)?;
    let bsale = super::bsale(&api)?;
    let TestQuery { entity: name, limit } = query.into_inner();
    let streams =
        entity(&name).ok_or_else(|| Problem::not_found(format!("Entidad '{name}' no encontrada.")))?;
    let mut records = std::collections::BTreeMap::new();
    for stream in STREAMS.iter().filter(|stream| streams.contains(&stream.name)) {
        records.insert(stream.table, target::count_live(&bsale.target.db, stream.table).await?);
    }
    Ok(HttpResponse::Ok().json(Tested { status: "success", entity: name, limit, records }))
}
