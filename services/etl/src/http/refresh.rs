//! Runs that people begin, and end.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Json, OptionalJson, Query},
};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Resources,
    begun::{Begun, begin},
    may_write, stream_of, within,
};
use crate::{
    domain::{
        run::{Mode, RunParams},
        stream::{Source, Stream, Walk},
    },
    request_run::hold_lane,
    storage::{raw_streams, runs},
    streams, target,
};

/// Qué actualizar.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub(super) struct RefreshForm {
    /// Todo, diga lo que diga la fuente que cambió; y las eliminaciones, aunque pasen del fusible.
    #[serde(default)]
    force: bool,
    /// Tablas o flujos; todos si está vacío o es nulo.
    tables: Option<Vec<String>>,
    /// Se acepta de quien lo envía: cuántos corren a la vez lo fija la configuración.
    #[allow(dead_code, reason = "a field of existing clients")]
    max_concurrent: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refreshing {
    /// `GET /api/v1/etl/runs/{pipeline_id}`.
    pipeline_id: Uuid,
    /// `started`.
    status: &'static str,
    tables_requested: Vec<&'static str>,
    started_at: DateTime<Utc>,
    #[serde(flatten)]
    begun: Begun,
}

async fn refresh(api: &Resources, caller: &Caller, names: &[String], force: bool) -> ApiResult {
    may_write(caller)?;
    let streams = if names.is_empty() {
        // The dashboards are the collections'; who has none of them has Bsale.
        let source = if api.has(Source::BigQuery) { Source::BigQuery } else { Source::Bsale };
        streams::all().filter(|stream| stream.source == source).collect()
    } else {
        names.iter().map(|name| stream_of(name)).collect::<Result<Vec<_>, _>>()?
    };
    let names: Vec<_> = streams.iter().map(|stream| stream.name).collect();
    let mode = if force { Mode::Full } else { Mode::Daily };
    let begun =
        begin(api, caller, &names, |stream| RunParams { force, ..RunParams::new(stream, mode) }).await?;
    Ok(HttpResponse::Accepted().json(Refreshing {
        pipeline_id: begun.run_id,
        status: "started",
        tables_requested: streams.iter().map(|stream| stream.shown()).collect(),
        started_at: Utc::now(),
        begun,
    }))
}

/// Refreshes tables, or all of them.
#[utoipa::path(
    operation_id = "refresh_dashboard", summary = "Actualizar varias tablas",
    description = "Todas si no se nombra ninguna.",
    post, path = "/api/v1/etl/refresh/dashboard", tag = "etl", request_body = RefreshForm,
    responses((status = 202, body = Refreshing), (status = 404)),
)]
pub(super) async fn dashboard(
    api: Data<Resources>,
    caller: Caller,
    form: OptionalJson<RefreshForm>,
) -> ApiResult {
    let RefreshForm { force, tables, .. } = form.0.unwrap_or_default();
    refresh(&api, &caller, &tables.unwrap_or_default(), force).await
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Force {
    /// Todo, diga lo que diga la fuente que cambió; y las eliminaciones, aunque pasen del fusible.
    #[serde(default)]
    force: bool,
}

/// Refreshes one table.
#[utoipa::path(
    operation_id = "refresh_table", summary = "Actualizar una tabla",
    description = "",
    post, path = "/api/v1/etl/refresh/table/{table}", tag = "etl", params(("table" = String, Path), Force),
    responses((status = 202, body = Refreshing)),
)]
pub(super) async fn table(
    api: Data<Resources>,
    caller: Caller,
    table: Path<String>,
    query: Query<Force>,
) -> ApiResult {
    refresh(&api, &caller, &[table.into_inner()], query.force).await
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cancelled {
    /// `cancelling`.
    status: &'static str,
    /// Las ejecuciones que terminan en su siguiente página.
    runs: Vec<Uuid>,
}

async fn end(api: &Resources, wanted: impl Fn(&str) -> bool) -> ApiResult {
    let mut ended = Vec::new();
    for (lane, id) in runs::all_active(&api.database.pool).await? {
        if wanted(&lane) {
            let mut conn = api.database.pool.acquire().await?;
            jobs::request_cancel(&mut conn, id).await.map_err(anyhow::Error::from)?;
            ended.push(id);
        }
    }
    Ok(HttpResponse::Accepted().json(Cancelled { status: "cancelling", runs: ended }))
}

/// Ends all runs at their next page. What they have read stays.
#[utoipa::path(
    operation_id = "cancel_all", summary = "Cancelar todas las ejecuciones",
    description = "",
    post, path = "/api/v1/etl/cancel", tag = "etl",
    responses((status = 202, body = Cancelled)),
)]
pub(super) async fn cancel(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_write(&caller)?;
    end(&api, |_| true).await
}

/// Ends the runs of one table, its backfill too.
#[utoipa::path(
    operation_id = "cancel_table", summary = "Cancelar la ejecución de una tabla",
    description = "",
    post, path = "/api/v1/etl/cancel/table/{table}", tag = "etl", params(("table" = String, Path)),
    responses((status = 202, body = Cancelled)),
)]
pub(super) async fn cancel_table(api: Data<Resources>, caller: Caller, table: Path<String>) -> ApiResult {
    may_write(&caller)?;
    let name = stream_of(&table)?.name;
    end(&api, |lane| lane.split('#').next() == Some(name)).await
}

/// Los días que se leen de nuevo.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackfillForm {
    /// Un flujo que va por días, o su tabla.
    tabla: String,
    /// El primer día.
    desde: NaiveDate,
    /// El último día; hoy si falta.
    hasta: Option<NaiveDate>,
    /// Marca lo que la fuente ya no tiene aunque pase del fusible.
    #[serde(default)]
    force: bool,
}

/// Reads days again, newest first, beside the live runs. It moves no watermark; cancelled, it can be resumed.
#[utoipa::path(
    operation_id = "backfill_start", summary = "Volver a leer un período",
    description = "Por días, del más reciente al más antiguo; no mueve la marca. Cancelada, se puede continuar.",
    post, path = "/api/v1/etl/backfill", tag = "etl", request_body = BackfillForm,
    responses((status = 202, body = Begun), (status = 404), (status = 422)),
)]
pub(super) async fn backfill(api: Data<Resources>, caller: Caller, form: Json<BackfillForm>) -> ApiResult {
    may_write(&caller)?;
    let BackfillForm { tabla, desde, hasta, force } = form.into_inner();
    let stream = stream_of(&tabla)?;
    if stream.walk != Walk::Days {
        return Err(Problem::unprocessable("not_by_days", format!("{tabla} no se lee por días")));
    }
    if hasta.is_some_and(|hasta| hasta < desde) {
        return Err(Problem::unprocessable("invalid_range", "hasta es anterior a desde"));
    }
    within(stream.source, &api, &[("desde", Some(desde)), ("hasta", hasta)])?;
    let params = |stream: &str| {
        let days = RunParams::new(stream, Mode::Backfill);
        RunParams { from: Some(desde), to: hasta, force, ..days }
    };
    Ok(HttpResponse::Accepted().json(begin(&api, &caller, &[stream.name], params).await?))
}

/// Qué olvidar.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetForm {
    /// Un flujo, o su tabla.
    tabla: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reset {
    /// `reset`.
    status: &'static str,
    stream: &'static str,
}

/// Forgets where a stream is: its next run begins at the beginning. Its rows stay.
#[utoipa::path(
    operation_id = "reset_table", summary = "Olvidar hasta dónde se leyó",
    description = "La próxima ejecución lee todo.",
    post, path = "/api/v1/etl/reset", tag = "etl", request_body = ResetForm,
    responses((status = 200, body = Reset), (status = 404), (status = 409)),
)]
pub(super) async fn reset(api: Data<Resources>, caller: Caller, form: Json<ResetForm>) -> ApiResult {
    may_write(&caller)?;
    let stream = stream_of(&form.tabla)?;
    if !forget(&api, stream).await? {
        return Err(Problem::conflict("run_active", format!("{} tiene una ejecución en curso", stream.name)));
    }
    Ok(HttpResponse::Ok().json(Reset { status: "reset", stream: stream.name }))
}

/// Forgets where a stream is. False: it has a run, which would go on from where it was, and say so.
///
/// # Errors
/// 404 where this installation does not have the stream's source; the database.
pub(super) async fn forget(api: &Resources, stream: &Stream) -> Result<bool, Problem> {
    let mut transaction = api.database.pool.begin().await?;
    // A run that is being asked for is seen, and none begins before all is forgotten.
    hold_lane(&mut transaction, stream.name).await?;
    if runs::active(&mut transaction, stream.name).await?.is_some() {
        return Ok(false);
    }
    match stream.source {
        Source::Bsale => drop(target::reset(&super::bsale(api)?.target.db, stream.name, Utc::now()).await?),
        Source::BigQuery => raw_streams::reset(&mut transaction, stream.name).await?,
    }
    transaction.commit().await?;
    Ok(true)
}
