//! How fresh each stream is.

use ::schedules::Schedule;
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{ApiResult, Problem, auth::Caller};
use chrono::{DateTime, Utc};
use jobs::{Job, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Resources, database_of, may_read, stream_of};
use crate::{
    domain::stream::{Source, Stream, Walk},
    scheduler::ScheduledSync,
    storage::{mart_version, raw_streams, runs},
    streams,
    target::{self, Lane},
};

/// Cuán al día está una tabla.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TableStatus {
    table_name: &'static str,
    stream: &'static str,
    /// `pending`, `running`, `completed`, `failed`, `cancelled` o `never`.
    status: &'static str,
    /// Cuándo terminó su última ejecución que salió bien.
    last_extracted: Option<DateTime<Utc>>,
    /// Hasta dónde está completa, por el reloj de la fuente.
    watermark: Option<DateTime<Utc>>,
    /// Se pregunta a la tabla; nulo en la lista de todas.
    records_count: Option<u64>,
    extraction_duration_seconds: Option<f64>,
    next_scheduled: Option<DateTime<Utc>>,
    error_message: Option<String>,
}

/// Qué datos muestran los tableros de cobranzas.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Dashboards {
    /// El `X-Data-Version` de sus respuestas.
    data_version: i64,
    /// Su `X-Data-As-Of`; nulo si aún no hay datos.
    data_as_of: Option<DateTime<Utc>>,
    refreshed_at: Option<DateTime<Utc>>,
    /// Por qué no muestran lo último que se leyó; nulo si lo muestran.
    held_back: Option<String>,
}

impl From<mart_version::Model> for Dashboards {
    fn from(version: mart_version::Model) -> Self {
        let mart_version::Model { version: data_version, as_of, refreshed_at, held_back, .. } = version;
        Self { data_version, data_as_of: as_of, refreshed_at, held_back }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SyncStatus)]
pub(super) struct Status {
    /// `healthy`, o `degraded` si falló la última ejecución de alguna tabla o los tableros no muestran lo último.
    status: &'static str,
    last_updated: Option<DateTime<Utc>>,
    total_tables: usize,
    successful_tables: usize,
    failed_tables: usize,
    running_extractions: usize,
    /// Nulo si esta instalación no tiene BigQuery.
    dashboards: Option<Dashboards>,
    tables: Vec<TableStatus>,
}

struct Known {
    lanes: Vec<Lane>,
    schedules: Vec<Schedule>,
}

fn lane(row: raw_streams::Model) -> Lane {
    Lane {
        lane: row.stream,
        // The job's lease is the fence here: rows and job are in one database.
        epoch: 0,
        run: row.run.map(|run| run.to_string()),
        watermark: row.watermark,
        state: None,
        updated_at: row.read_at.unwrap_or_default(),
    }
}

async fn known(api: &Resources) -> Result<Known, Problem> {
    let mut lanes = match &api.bsale {
        Some(bsale) => target::lanes(&bsale.target.db).await?,
        None => Vec::new(),
    };
    lanes.extend(raw_streams::all(&api.database.orm).await?.into_iter().map(lane));
    Ok(Known { lanes, schedules: ::schedules::list(&api.database.orm).await? })
}

async fn status_of(api: &Resources, known: &Known, stream: &'static Stream) -> Result<TableStatus, Problem> {
    let mut conn = api.database.pool.acquire().await?;
    let job = runs::latest(&mut conn, stream.name).await.map_err(anyhow::Error::from)?;
    let last_extracted = runs::last_completed(&mut *conn, stream.name).await?;
    let lane = known.lanes.iter().find(|lane| lane.lane == stream.name);
    let next = known.schedules.iter().filter(|schedule| schedule.active).filter(|schedule| {
        let sync = serde_json::from_value::<ScheduledSync>(schedule.params.clone());
        sync.is_ok_and(|sync| sync.streams().contains(&stream.name))
    });
    let duration = |job: &Job| Some((job.finished_at? - job.started_at?).as_seconds_f64());
    Ok(TableStatus {
        table_name: stream.shown(),
        stream: stream.name,
        status: job.as_ref().map_or("never", |job| job.state.name()),
        last_extracted,
        watermark: lane.and_then(|lane| lane.watermark),
        records_count: None,
        extraction_duration_seconds: job.as_ref().and_then(duration),
        next_scheduled: next.map(|schedule| schedule.next_at).min(),
        error_message: job.filter(|job| job.state == State::Failed).and_then(|job| job.error),
    })
}

/// The state of all tables, with the freshness of each, and of what the dashboards show.
#[utoipa::path(
    operation_id = "status_get", summary = "Ver el estado de todas las tablas",
    description = "También qué versión de los datos muestran los tableros, y por qué no una más nueva.",
    get, path = "/api/v1/etl/status", tag = "etl",
    responses((status = 200, body = Status)),
)]
pub(super) async fn all(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_read(&caller)?;
    let known = known(&api).await?;
    let mut tables = Vec::new();
    for stream in streams::all().filter(|stream| api.has(stream.source)) {
        tables.push(status_of(&api, &known, stream).await?);
    }
    let count = |status: &str| tables.iter().filter(|table| table.status == status).count();
    let running = count("running") + count("pending");
    let failed = count("failed");
    let dashboards = if api.has(Source::BigQuery) {
        Some(Dashboards::from(mart_version::get(&api.database.orm).await?))
    } else {
        None
    };
    let held_back = dashboards.as_ref().is_some_and(|dashboards| dashboards.held_back.is_some());
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(Status {
        status: if failed > 0 || held_back { "degraded" } else { "healthy" },
        last_updated: tables.iter().filter_map(|table| table.last_extracted).max(),
        total_tables: tables.len(),
        successful_tables: count("completed"),
        failed_tables: failed,
        running_extractions: running,
        dashboards,
        tables,
    }))
}

/// The state of one table, or of the stream of this name.
#[utoipa::path(
    operation_id = "status_table", summary = "Ver el estado de una tabla",
    description = "",
    get, path = "/api/v1/etl/status/table/{table}", tag = "etl", params(("table" = String, Path)),
    responses((status = 200, body = TableStatus)),
)]
pub(super) async fn one(api: Data<Resources>, caller: Caller, table: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let stream = stream_of(&table)?;
    let mut status = status_of(&api, &known(&api).await?, stream).await?;
    if let Some(conn) = database_of(&api, stream) {
        status.records_count = Some(target::count_live(conn, stream.table).await?);
    }
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(status))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TableConfig {
    table_name: &'static str,
    stream: &'static str,
    /// `full_scan`, o `incremental` por días.
    strategy: &'static str,
    daily: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TableConfigs {
    tables: Vec<TableConfig>,
}

/// The tables that are synced, and how.
#[utoipa::path(
    operation_id = "config_tables", summary = "Ver las tablas configuradas",
    description = "",
    get, path = "/api/v1/etl/config/tables", tag = "etl",
    responses((status = 200, body = TableConfigs)),
)]
pub(super) async fn tables(caller: Caller) -> ApiResult {
    may_read(&caller)?;
    let tables = streams::all().map(|stream| TableConfig {
        table_name: stream.shown(),
        stream: stream.name,
        strategy: match stream.walk {
            Walk::Scan => "full_scan",
            Walk::Days => "incremental",
        },
        daily: stream.daily,
    });
    Ok(HttpResponse::Ok().json(TableConfigs { tables: tables.collect() }))
}
