//! Runs: asked for, listed, looked at.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{
        Json, Query,
        page::{Cursor, cut},
    },
};
use chrono::{DateTime, NaiveDate, Utc};
use failpoints::Point;
use jobs::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Resources,
    day::{day, no_campaigns},
    in_range, may_read, may_write,
};
use crate::{
    domain::{
        params::{self, Compression, Encoding, Format, Kind, MessageState, Params},
        state,
    },
    request_run::{Requested, RunRequest, request_run},
    storage::{
        files,
        runs::{self, Run},
    },
};

/// Cómo debe ser un reporte. Lo que falta es como en `GET /reporte`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    #[serde(default)]
    tipo: Kind,
    #[serde(default)]
    formato: Format,
    /// Un carácter: `,` en CSV y `|` en TXT si falta.
    separador: Option<String>,
    #[serde(default)]
    codificacion: Encoding,
    #[serde(default)]
    comprimir: Compression,
    /// Solo mensajes en estos estados.
    #[serde(default)]
    estados: Vec<MessageState>,
}

impl Form {
    pub(super) fn params(mut self) -> Result<Params, Problem> {
        let separator = params::separator(self.separador.as_deref(), self.formato)
            .map_err(|error| Problem::unprocessable("invalid_separator", error.to_string()))?;
        if self.tipo == Kind::Resumen && !self.estados.is_empty() {
            let detail = "estados no se aplica a un resumen, que los cuenta todos";
            return Err(Problem::unprocessable("invalid_states", detail));
        }
        self.estados.sort_unstable();
        self.estados.dedup();
        Ok(Params {
            kind: self.tipo,
            format: self.formato,
            separator,
            encoding: self.codificacion,
            compression: self.comprimir,
            states: self.estados,
        })
    }
}

/// Un reporte de las campañas de un día.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct NewReport {
    /// `YYYY/MM/DD`.
    #[serde(default)]
    fecha: String,
    /// Uno nuevo, aunque haya otro en marcha o nada haya cambiado desde el último.
    #[serde(default)]
    forzar: bool,
    #[serde(default)]
    tipo: Kind,
    #[serde(default)]
    formato: Format,
    /// Un carácter: `,` en CSV y `|` en TXT si falta.
    separador: Option<String>,
    #[serde(default)]
    codificacion: Encoding,
    #[serde(default)]
    comprimir: Compression,
    /// Solo mensajes en estos estados.
    #[serde(default)]
    estados: Vec<MessageState>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FileCounts {
    total: i32,
    completados: i32,
    fallidos: i32,
}

/// Un reporte.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Report {
    id: Uuid,
    fecha: NaiveDate,
    estado: state::Estado,
    /// Se pidió que termine.
    cancelado: bool,
    parametros: Params,
    archivos: FileCounts,
    /// En los archivos que están hechos.
    filas: i64,
    bytes: i64,
    /// Las que lleva, en todos los archivos.
    #[serde(skip_serializing_if = "Option::is_none")]
    filas_procesadas: Option<i64>,
    creado_por: String,
    creado_en: DateTime<Utc>,
    terminado_en: Option<DateTime<Utc>>,
    /// Lo que espera antes de empezar.
    #[serde(skip_serializing_if = "Option::is_none")]
    espera: Option<String>,
    /// Lo que faltaba de su día cuando empezó sin esperarlo más.
    #[serde(skip_serializing_if = "Option::is_none")]
    incompleto: Option<String>,
    /// Cuándo se eliminaron sus archivos por su antigüedad.
    eliminado_en: Option<DateTime<Utc>>,
    status_url: String,
}

impl Report {
    pub(super) fn of(run: Run, processed: Option<i64>) -> Self {
        Self {
            status_url: format!("/api/v1/reports/{}", run.id),
            id: run.id,
            fecha: run.fecha,
            estado: state::shown(run.state),
            cancelado: run.cancel_requested_at.is_some(),
            parametros: run.params,
            archivos: FileCounts { total: run.files, completados: run.done, fallidos: run.failed },
            filas: run.rows,
            bytes: run.bytes,
            filas_procesadas: processed,
            creado_por: run.created_by,
            creado_en: run.created_at,
            terminado_en: run.finished_at,
            // A worker of the version before leaves it where it begins a run that waited.
            espera: run.waits_for.filter(|_| run.state == State::Pending),
            incompleto: run.begun_without,
            eliminado_en: run.purged_at,
        }
    }
}

/// Begins a run, or finds the one that answers the request; and whether it is new.
pub(super) async fn begin(
    api: &Resources,
    caller: &Caller,
    fecha: NaiveDate,
    params: Params,
    force: bool,
) -> Result<(Run, bool), Problem> {
    let request = RunRequest {
        fecha,
        params,
        force,
        user: caller.id().to_owned(),
        correlation_id: chassis::http::request_id(),
    };
    let mut transaction = api.database.pool.begin().await?;
    match request_run(&mut transaction, api, request).await? {
        Requested::New(run) => {
            transaction.commit().await?;
            failpoints::hit(Point::UploadCommitted);
            Ok((run, true))
        }
        Requested::Same(run) => Ok((run, false)),
        Requested::NoCampaigns => Err(no_campaigns(fecha)),
    }
}

/// The run that the caller names.
pub(super) async fn named(api: &Resources, id: &str) -> Result<Run, Problem> {
    let none = || Problem::not_found(format!("Reporte {id} no encontrado"));
    let uuid = Uuid::parse_str(id).map_err(|_| none())?;
    runs::get(&api.database.orm, uuid).await?.ok_or_else(none)
}

/// Has a report made. Asked again with the same parameters, it gives the run that is under way, or the finished one
/// while nothing of the day has changed since.
#[utoipa::path(
    operation_id = "reports_create", summary = "Pedir un reporte",
    description = "Si se pide otra vez con los mismos parámetros, responde el que está en marcha, o el terminado mientras nada de ese día haya cambiado.",
    post, path = "/api/v1/reports", tag = "report", request_body = NewReport,
    responses((status = 202, body = Report), (status = 422))
)]
pub(super) async fn create(api: Data<Resources>, caller: Caller, body: Json<NewReport>) -> ApiResult {
    may_write(&caller)?;
    let NewReport { fecha, forzar, tipo, formato, separador, codificacion, comprimir, estados } =
        body.into_inner();
    let form = Form { tipo, formato, separador, codificacion, comprimir, estados };
    let (fecha, params) = (day(&fecha)?, form.params()?);
    let (run, _) = begin(&api, &caller, fecha, params, forzar).await?;
    let url = format!("/api/v1/reports/{}", run.id);
    Ok(HttpResponse::Accepted().insert_header(("Location", url)).json(Report::of(run, None)))
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct ListQuery {
    /// Solo los de un día, `YYYY/MM/DD`.
    fecha: Option<String>,
    /// El `siguiente` de la página anterior.
    despues_de: Option<String>,
    /// Reportes por página, de 1 a 100.
    #[param(minimum = 1, maximum = 100)]
    size: Option<i64>,
}

/// Una página de reportes, del más reciente al más antiguo.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReportPage {
    items: Vec<Report>,
    /// Se envía como `despues_de` para pedir la página siguiente; nulo en la última.
    siguiente: Option<String>,
}

/// The runs there are, newest first.
#[utoipa::path(
    operation_id = "reports_list", summary = "Listar reportes",
    description = "Del más reciente al más antiguo.",
    get, path = "/api/v1/reports", tag = "report", params(ListQuery),
    responses((status = 200, body = ReportPage))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller, query: Query<ListQuery>) -> ApiResult {
    may_read(&caller)?;
    let fecha = query.fecha.as_deref().map(day).transpose()?;
    let size = in_range("size", query.size.unwrap_or(20), 1, 100)?;
    let before = Cursor::before("despues_de", query.despues_de.as_deref(), "siguiente")?;
    let mut page = runs::list(&api.database.orm, fecha, before, size.unsigned_abs() + 1).await?;
    let siguiente = cut(&mut page, size, |last| Cursor { at: last.created_at, id: last.id }.to_string());
    let items = page.into_iter().map(|run| Report::of(run, None)).collect();
    Ok(HttpResponse::Ok().json(ReportPage { items, siguiente }))
}

/// A run, and how far it is.
#[utoipa::path(
    operation_id = "reports_get", summary = "Ver un reporte",
    description = "Con su avance.",
    get, path = "/api/v1/reports/{id}", tag = "report", params(("id" = String, Path)),
    responses((status = 200, body = Report))
)]
pub(super) async fn get(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let run = named(&api, &id).await?;
    let processed = files::processed(&api.database.pool, run.id).await?;
    let report = Report::of(run, Some(processed));
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(report))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_has_not_begun_says_what_it_waits_for() {
        let shown = |state| {
            let run = Run {
                id: Uuid::nil(),
                fecha: NaiveDate::default(),
                params: Params::default(),
                state,
                files: 1,
                done: 0,
                failed: 0,
                rows: 0,
                bytes: 0,
                created_by: "ana".to_owned(),
                created_at: DateTime::default(),
                cancel_requested_at: None,
                finished_at: None,
                purged_at: None,
                version: 1,
                waits_for: Some("faltan 2 filas".to_owned()),
                begun_without: None,
            };
            Report::of(run, None).espera
        };
        assert_eq!(shown(State::Pending).as_deref(), Some("faltan 2 filas"));
        assert_eq!(shown(State::Running), None);
        assert_eq!(shown(State::Cancelled), None);
    }
}
