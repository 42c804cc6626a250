//! Runs: listed, looked at, and resumed; and what they could not read.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Json, Query},
};
use chrono::{DateTime, Utc};
use jobs::{Filter, Job, Page, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Resources, may_read, may_write, stream_of};
use crate::{
    collections,
    domain::run::{Counters, Mode, Redriven, RunParams},
    jobs::run_sync::KIND,
    request_run::{Resumed, resume_run},
    storage::{raw_quarantine, runs},
    target::{self, KeptRecord, Quarantined},
};

/// Una ejecución.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunView {
    pub id: Uuid,
    /// Como `bsale.documentos`.
    pub flujo: String,
    pub modo: Mode,
    /// `pending`, `running`, `completed`, `failed` o `cancelled`.
    pub estado: &'static str,
    pub contadores: Counters,
    /// Hasta dónde está completo el flujo, por el reloj de la fuente.
    pub marca: Option<DateTime<Utc>>,
    /// Lo que sus consultas leen en BigQuery, según su ensayo; nulo en otras fuentes.
    pub bytes: Option<u64>,
    /// Días cuyos totales difieren de los de la fuente después de leerlos de nuevo.
    pub dias_distintos: Value,
    /// Días de BigQuery que ya no eran como se leyeron, o con filas que otra con su clave, que ya no está, había reemplazado:
    /// se leyeron de nuevo.
    pub dias_releidos: Value,
    pub error: Option<String>,
    pub intentos: i32,
    pub creado_por: Option<String>,
    pub creado_en: DateTime<Utc>,
    pub iniciado_en: Option<DateTime<Utc>>,
    pub terminado_en: Option<DateTime<Utc>>,
    pub version: i64,
}

impl RunView {
    pub fn new(job: Job) -> Result<Self, Problem> {
        let params: RunParams = serde_json::from_value(job.params).map_err(Problem::internal)?;
        let told = job.result.or(job.checkpoint).unwrap_or_default();
        // What has not ended well has a checkpoint only, which BigQuery's runs write in the words of the code.
        let counters = told.get("contadores").or_else(|| told.get("counters"));
        let counters = counters.cloned().map(serde_json::from_value).transpose();
        Ok(Self {
            id: job.id,
            flujo: params.stream,
            modo: params.mode,
            estado: job.state.name(),
            contadores: counters.map_err(Problem::internal)?.unwrap_or_default(),
            marca: told["marca"].as_str().and_then(|text| text.parse().ok()),
            bytes: told["bytes"].as_u64(),
            dias_distintos: told.get("dias_distintos").cloned().unwrap_or_else(|| Value::Array(Vec::new())),
            dias_releidos: told.get("dias_releidos").cloned().unwrap_or_else(|| Value::Array(Vec::new())),
            error: job.error,
            intentos: job.attempts,
            creado_por: job.user,
            creado_en: job.created_at,
            iniciado_en: job.started_at,
            terminado_en: job.finished_at,
            version: job.version,
        })
    }
}

/// Ejecuciones que se pidieron juntas.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupView {
    id: Uuid,
    /// `running` mientras una no haya terminado; después `completed`, o `failed` si una no lo está.
    estado: &'static str,
    ejecuciones: Vec<RunView>,
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct ListQuery {
    /// `pending`, `running`, `completed`, `failed` o `cancelled`.
    estado: Option<String>,
    /// El `siguiente` de la página anterior.
    cursor: Option<String>,
    /// De 1 a 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Runs {
    items: Vec<RunView>,
    siguiente: Option<String>,
}

/// All runs, newest first.
#[utoipa::path(
    operation_id = "runs_list", summary = "Listar ejecuciones",
    description = "Las más recientes primero.",
    get, path = "/api/v1/etl/runs", tag = "etl", params(ListQuery),
    responses((status = 200, body = Runs)),
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller, query: Query<ListQuery>) -> ApiResult {
    may_read(&caller)?;
    let ListQuery { estado, cursor, limit } = query.into_inner();
    let state: Option<State> = match estado {
        None => None,
        Some(text) => Some(serde_json::from_value(Value::from(text.as_str())).map_err(|_| {
            Problem::bad_request("invalid_state", format!("estado {text:?} no es un estado de ejecución"))
        })?),
    };
    let size = chassis::http::in_range("limit", limit.unwrap_or(50), 1, 200)?;
    let filter = Filter { kind: Some(KIND.to_owned()), state, user: None };
    let page = Page { after: cursor, size };
    let pages = jobs::list(&api.database.pool, &filter, &page).await.map_err(anyhow::Error::from)?;
    let items = pages.items.into_iter().map(RunView::new).collect::<Result<_, _>>()?;
    Ok(HttpResponse::Ok().json(Runs { items, siguiente: pages.next }))
}

/// A run, or all that were asked for together.
#[utoipa::path(
    operation_id = "runs_get", summary = "Ver una ejecución",
    description = "También las de un grupo, con el `run_id` que las pidió juntas.",
    get, path = "/api/v1/etl/runs/{id}", tag = "etl", params(("id" = String, Path)),
    responses((status = 200, body = RunView)),
)]
pub(super) async fn get(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let none = || Problem::not_found(format!("Ejecución {id} no encontrada"));
    let uuid = Uuid::parse_str(&id).map_err(|_| none())?;
    let mut conn = api.database.pool.acquire().await?;
    let found = jobs::get(&mut conn, uuid).await.map_err(anyhow::Error::from)?;
    let mut response = HttpResponse::Ok();
    response.insert_header(("Cache-Control", "no-store"));
    if let Some(job) = found.filter(|job| job.kind == KIND) {
        return Ok(response.json(RunView::new(job)?));
    }
    let group = runs::of_group(&mut conn, uuid).await.map_err(anyhow::Error::from)?;
    if group.is_empty() {
        return Err(none());
    }
    let estado = match group.iter().all(|job| job.state.is_final()) {
        false => "running",
        true if group.iter().all(|job| job.state == State::Completed) => "completed",
        true => "failed",
    };
    let ejecuciones = group.into_iter().map(RunView::new).collect::<Result<_, _>>()?;
    Ok(response.json(GroupView { id: uuid, estado, ejecuciones }))
}

/// Lets a backfill that was cancelled, or has failed, go on where it was.
#[utoipa::path(
    operation_id = "runs_resume", summary = "Continuar la relectura de un período",
    description = "Una cancelada o fallida sigue con el día en que estaba. La que falló por sus registros en cuarentena se pide de nuevo. Otras ejecuciones no se continúan: la siguiente parte de la marca.",
    post, path = "/api/v1/etl/runs/{id}/resume", tag = "etl", params(("id" = String, Path)),
    responses((status = 202, body = RunView), (status = 404), (status = 409)),
)]
pub(super) async fn resume(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_write(&caller)?;
    let none = || Problem::not_found(format!("Ejecución {id} no encontrada"));
    let uuid = Uuid::parse_str(&id).map_err(|_| none())?;
    let mut transaction = api.database.pool.begin().await?;
    let correlation = chassis::http::request_id();
    match resume_run(&mut transaction, &api.settings, uuid, correlation).await? {
        Resumed::GoesOn(job) => {
            transaction.commit().await?;
            Ok(HttpResponse::Accepted().json(RunView::new(*job)?))
        }
        Resumed::Unknown => Err(none()),
        Resumed::Never => {
            let detail = "Solo se continúa la relectura de un período que se canceló o que falló";
            Err(Problem::conflict("not_resumable", detail))
        }
        Resumed::Busy => {
            let detail = "Otra relectura de la misma tabla está en curso";
            Err(Problem::conflict("run_active", detail))
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct QuarantineQuery {
    /// De un flujo, o de su tabla.
    flujo: Option<String>,
    /// De 1 a 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// Qué volver a leer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedriveForm {
    /// Un flujo, o su tabla.
    flujo: String,
    /// De la lista de cuarentena; todos los del flujo si falta.
    #[serde(default)]
    ids: Vec<String>,
}

/// Reads records in quarantine again, as they were kept: the source is not asked. A thousand at once.
#[utoipa::path(
    operation_id = "quarantine_redrive", summary = "Reprocesar registros en cuarentena",
    description = "Sin preguntar a la fuente: los que ahora se entienden pasan a su tabla, salvo los que la fuente ya no tenía así en la última lectura completa. Hasta 1.000 por llamada.",
    post, path = "/api/v1/etl/quarantine/redrive", tag = "etl", request_body = RedriveForm,
    responses((status = 200, body = Redriven), (status = 404)),
)]
pub(super) async fn redrive(api: Data<Resources>, caller: Caller, form: Json<RedriveForm>) -> ApiResult {
    const MOST: u32 = 1_000;
    may_write(&caller)?;
    let RedriveForm { flujo, ids } = form.into_inner();
    let stream = stream_of(&flujo)?;
    if ids.len() > MOST as usize {
        let detail = format!("ids tiene {} elementos, se esperaban hasta {MOST}", ids.len());
        return Err(Problem::bad_request("too_many_ids", detail));
    }
    let redriven = match collections::streams::table_of(stream.name) {
        Some(table) => {
            collections::redrive::redrive(&api.database.pool, table, &ids, i64::from(MOST)).await?
        }
        None => {
            crate::bsale::redrive::redrive(super::bsale(&api)?, stream.name, &ids, u64::from(MOST)).await?
        }
    };
    Ok(HttpResponse::Ok().json(redriven))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Quarantine {
    items: Vec<KeptRecord>,
}

/// A record as those see it who may not write: of what came, they see which field is wrong.
fn masked(kept: KeptRecord) -> KeptRecord {
    let rule = &kept.record.regla;
    let field = rule.split([' ', ':']).next().unwrap_or_default();
    let hidden = || HIDDEN.to_owned();
    let record = Quarantined { clave: hidden(), regla: field.to_owned(), registro: hidden(), ..kept.record };
    KeptRecord { record, ..kept }
}

/// What viewers see of a record.
const HIDDEN: &str = "(oculto)";

/// Records that could not be read, as they came, with their key and the rule that they break. Viewers see which field is
/// bad: the rest has phones, mails and names.
#[utoipa::path(
    operation_id = "quarantine_list", summary = "Listar registros en cuarentena",
    description = "De todas las fuentes, los más recientes primero: el registro recibido, la regla y la ejecución.",
    get, path = "/api/v1/etl/quarantine", tag = "etl", params(QuarantineQuery),
    responses((status = 200, body = Quarantine), (status = 404, description = "La tabla '…' no existe")),
)]
pub(super) async fn quarantine(
    api: Data<Resources>,
    caller: Caller,
    query: Query<QuarantineQuery>,
) -> ApiResult {
    may_read(&caller)?;
    let size = chassis::http::in_range("limit", query.limit.unwrap_or(50), 1, 500)?;
    let of = query.flujo.as_deref().map(stream_of).transpose()?.map(|stream| stream.name);
    let mut items = match &api.bsale {
        Some(bsale) => target::quarantined(&bsale.target.db, of, size).await?,
        None => Vec::new(),
    };
    items.extend(raw_quarantine::list(&api.database.orm, of, size).await?);
    items.sort_by(|one, other| other.visto_en.cmp(&one.visto_en).then_with(|| one.id.cmp(&other.id)));
    items.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let items = if may_write(&caller).is_ok() { items } else { items.into_iter().map(masked).collect() };
    Ok(HttpResponse::Ok().json(Quarantine { items }))
}
