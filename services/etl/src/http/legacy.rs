//! The paths that the users' ETL had, as their clients know them. They answered at the end of a sync; these answer at
//! once, with the run to look at.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{ApiResult, Problem, auth::Caller, http::Query};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Resources,
    begun::{Begun, begin},
    may_write,
    refresh::forget,
};
use crate::{
    bsale::STREAMS,
    domain::run::{Mode, RunParams},
};

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Started {
    /// `Full sync started`, `Daily sync started`.
    status: &'static str,
    #[serde(flatten)]
    begun: Begun,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Synced {
    /// `sincronización completada`, como lo esperan los clientes; la ejecución dice cuándo lo está.
    status: &'static str,
    entity: String,
    #[serde(flatten)]
    begun: Begun,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reloaded {
    status: &'static str,
    message: &'static str,
    #[serde(flatten)]
    begun: Begun,
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct StartQuery {
    /// `YYYY-MM-DD`: documentos desde este día; si es anterior a los datos, todos.
    start_date: Option<NaiveDate>,
}

fn all() -> Vec<&'static str> {
    STREAMS.iter().map(|stream| stream.name).collect()
}

async fn start(api: &Resources, caller: &Caller, mode: Mode, status: &'static str) -> ApiResult {
    may_write(caller)?;
    super::bsale(api)?;
    let begun = begin(api, caller, &all(), |stream| RunParams::new(stream, mode)).await?;
    Ok(HttpResponse::Ok().json(Started { status, begun }))
}

/// Reads everything of Bsale; days whose totals are the same are left alone.
#[utoipa::path(
    operation_id = "legacy_full_sync", summary = "Sincronizar todo Bsale",
    description = "Responde en el acto; `run_id` permite seguir la sincronización.",
    post, path = "/etl/run-full-sync", tag = "etl",
    responses(
        (status = 200, body = Started), (status = 404, description = "Esta instalación no tiene Bsale"),
    ),
)]
pub(super) async fn full(api: Data<Resources>, caller: Caller) -> ApiResult {
    start(&api, &caller, Mode::Full, "Full sync started").await
}

/// Reads what is new at Bsale.
#[utoipa::path(
    operation_id = "legacy_daily_sync", summary = "Sincronizar los últimos días de Bsale",
    description = "Responde en el acto; `run_id` permite seguir la sincronización.",
    post, path = "/etl/run-daily-sync", tag = "etl",
    responses(
        (status = 200, body = Started), (status = 404, description = "Esta instalación no tiene Bsale"),
    ),
)]
pub(super) async fn daily(api: Data<Resources>, caller: Caller) -> ApiResult {
    start(&api, &caller, Mode::Daily, "Daily sync started").await
}

/// The streams of what the users call an entity.
pub(super) fn entity(name: &str) -> Option<Vec<&'static str>> {
    Some(match name {
        "clients" => vec!["bsale.clientes"],
        "products" => vec![
            "bsale.tipos_producto",
            "bsale.productos",
            "bsale.variantes",
            "bsale.listas_precio",
            "bsale.costos",
            "bsale.stock",
        ],
        "documents" => vec!["bsale.tipos_documento", "bsale.documentos"],
        "all" => all(),
        _ => return None,
    })
}

async fn one(api: &Resources, caller: &Caller, name: &str, query: &StartQuery) -> ApiResult {
    may_write(caller)?;
    super::bsale(api)?;
    let streams =
        entity(name).ok_or_else(|| Problem::not_found(format!("Entidad '{name}' no encontrada.")))?;
    let params = |stream: &str| {
        let from = query.start_date.filter(|_| stream == "bsale.documentos");
        RunParams { from, ..RunParams::new(stream, Mode::Daily) }
    };
    let begun = begin(api, caller, &streams, params).await?;
    let synced = Synced { status: "sincronización completada", entity: name.to_owned(), begun };
    Ok(HttpResponse::Ok().json(synced))
}

/// Reads clients, products, documents, or all.
#[utoipa::path(
    operation_id = "legacy_sync_entity", summary = "Sincronizar una entidad",
    description = "`clients`, `products`, `documents` o `all`.",
    post, path = "/etl/sync/{entity}", tag = "etl", params(("entity" = String, Path), StartQuery),
    responses((status = 200, body = Synced), (status = 404, description = "Entidad '…' no encontrada.")),
)]
pub(super) async fn sync(
    api: Data<Resources>,
    caller: Caller,
    entity: Path<String>,
    query: Query<StartQuery>,
) -> ApiResult {
    one(&api, &caller, &entity, &query).await
}

/// The same at its other path.
#[utoipa::path(
    operation_id = "sync_entity", summary = "Sincronizar una entidad",
    description = "`clients`, `products`, `documents` o `all`.",
    post, path = "/api/v1/etl/sync/{entity}", tag = "etl", params(("entity" = String, Path), StartQuery),
    responses((status = 200, body = Synced), (status = 404, description = "Entidad '…' no encontrada.")),
)]
pub(super) async fn sync_v1(
    api: Data<Resources>,
    caller: Caller,
    entity: Path<String>,
    query: Query<StartQuery>,
) -> ApiResult {
    one(&api, &caller, &entity, &query).await
}

/// Reads everything again from the beginning. Readers keep the rows that there are until it ends.
#[utoipa::path(
    operation_id = "clean_and_reload", summary = "Volver a leer todo",
    description = "Quienes consultan ven las filas de antes hasta el final.",
    post, path = "/api/v1/etl/clean-and-reload", tag = "etl",
    responses(
        (status = 200, body = Reloaded), (status = 404, description = "Esta instalación no tiene Bsale"),
    ),
)]
pub(super) async fn clean_and_reload(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_write(&caller)?;
    let bsale = super::bsale(&api)?;
    let streams = all();
    for stream in STREAMS {
        // One that has a run keeps it: the answer names that.
        let _forgotten = forget(&api, stream).await?;
    }
    let start = bsale.settings.start;
    let begun = begin(&api, &caller, &streams, |stream| match stream {
        // Every day, whatever its totals say.
        "bsale.documentos" => RunParams { from: Some(start), ..RunParams::new(stream, Mode::Daily) },
        _ => RunParams::new(stream, Mode::Full),
    })
    .await?;
    let message = "Recarga completa iniciada; los datos actuales se conservan hasta que termine";
    Ok(HttpResponse::Ok().json(Reloaded { status: "success", message, begun }))
}
