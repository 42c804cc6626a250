//! The paths that clients of the reports have known for long, as they know them.

use std::collections::HashMap;

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{CrossSite, Query},
};
use chrono::{DateTime, NaiveDate, Utc};
use jobs::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Resources, day::day, may_read, may_write, reports::begin};
use crate::{
    domain::{params::Params, state},
    storage::{campaigns, files},
};

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct DayQuery {
    /// `YYYY/MM/DD`.
    #[serde(default)]
    fecha: String,
}

/// Una campaña cuyo archivo está en camino.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Begun {
    id: i64,
    nombre: String,
    estado: state::Estado,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Generation {
    mensaje: String,
    campanias: Vec<Begun>,
}

/// Has the files of a day's campaigns made. Asked again, it begins no second time while the first is under way or
/// what it made still holds.
#[utoipa::path(
    operation_id = "campaigns_generate", summary = "Generar los reportes de un día",
    description = "Inicia los archivos de las campañas de la fecha. Si se pide otra vez, no empieza de nuevo mientras está en marcha o lo hecho sigue siendo válido. Con una sesión de cookie necesita X-CSRF-Token, aunque sea un GET.",
    get, path = "/reporte", tag = "report", params(DayQuery),
    responses(
        (status = 200, body = Generation),
        (status = 400, description = "Formato de fecha inválido. Use 'YYYY/MM/DD'."),
        (status = 404, description = "No se encontraron campañas para la fecha YYYY-MM-DD"),
    ),
    extensions(("x-csrf" = json!(true)))
)]
pub(super) async fn generate(
    api: Data<Resources>,
    caller: Caller,
    query: Query<DayQuery>,
    site: CrossSite,
) -> ApiResult {
    may_write(&caller)?;
    site.refuse()?;
    let fecha = day(&query.fecha)?;
    let (run, _) = begin(&api, &caller, fecha, Params::default(), false).await?;
    let orm = &api.database.orm;
    let states: HashMap<i64, State> =
        files::of_run(orm, run.id).await?.into_iter().map(|file| (file.campaign_id, file.state)).collect();
    let campanias: Vec<_> = campaigns::of_day(orm, fecha)
        .await?
        .into_iter()
        .filter_map(|campaign| {
            let estado = state::shown(*states.get(&campaign.id)?);
            Some(Begun { id: campaign.id, nombre: campaign.nombre, estado })
        })
        .collect();
    let mensaje = format!("Generación de reportes iniciada para {} campañas", campanias.len());
    Ok(HttpResponse::Ok().json(Generation { mensaje, campanias }))
}

/// Dónde va el último archivo de una campaña.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FileStatus {
    id_campana: i64,
    estado: state::Estado,
    /// El día de la campaña, `YYYY-MM-DD`.
    fecha: NaiveDate,
    /// Cuando está hecho, y hasta que se elimina por su antigüedad.
    ruta_archivo: Option<String>,
    /// Cuándo se eliminó por su antigüedad.
    #[serde(skip_serializing_if = "Option::is_none")]
    eliminado_en: Option<DateTime<Utc>>,
}

/// Where the file of a campaign stands that was asked for last, as [`generate`] makes them: those of other formats or
/// of some states alone have runs of their own.
#[utoipa::path(
    operation_id = "campaigns_get_status", summary = "Ver el reporte de una campaña",
    description = "Dónde va el último archivo que se pidió de la campaña con los parámetros de `GET /reporte`. El que se eliminó por su antigüedad ya no tiene ruta.",
    get, path = "/reporte/status/{id_campana}", tag = "report", params(("id_campana" = i64, Path)),
    responses(
        (status = 200, body = FileStatus),
        (status = 404, description = "No se encontró reporte para la campaña {id}"),
    )
)]
pub(super) async fn status(api: Data<Resources>, caller: Caller, id_campana: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let none = || Problem::not_found(format!("No se encontró reporte para la campaña {id_campana}"));
    // 0 is a summary's, which is no campaign.
    let id: i64 = id_campana.parse().ok().filter(|id| *id > 0).ok_or_else(none)?;
    let file = files::latest(&api.database.orm, id, &Params::default()).await?.ok_or_else(none)?;
    let status = FileStatus {
        id_campana: id,
        estado: state::shown(file.state),
        fecha: file.fecha,
        ruta_archivo: file.kept().map(|key| format!("s3://{}/{key}", api.bucket)),
        eliminado_en: file.purged_at,
    };
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(status))
}
