//! Validations: numbers of contacts that a provider is asked about, for money.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{
        Json, Query,
        job::{Accepted, Pace, percent},
        request_id,
    },
    idempotency::{IdempotencyKey, request_hash},
};
use chrono::{DateTime, Days, Utc};
use jobs::{Creation, Job, NewJob};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    job_requests::{self, PageQuery},
    may_administer, may_watch,
};
use crate::{
    Resources,
    domain::segment::Segment,
    jobs::validate_contacts,
    storage::{
        audit,
        validations::{self, Validation},
    },
};

/// The most look-ups that one validation may ask for.
const MOST: i64 = 50_000_000;
/// Days for which an answer stands, unless told.
const STANDS: u32 = 90;
const MOST_DAYS: u32 = 3_650;

/// Por los números de quiénes preguntar, y por cuántos como máximo.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ValidationRequest {
    /// Como la de un segmento, sin `sample`.
    #[serde(default)]
    filter: Segment,
    /// Consultas como máximo; el proveedor cobra cada una.
    #[schema(minimum = 1, maximum = 50_000_000)]
    budget: i64,
    /// No se vuelve a preguntar por quien se preguntó en tantos días; 90 si falta.
    #[serde(default)]
    again_after_days: Option<u32>,
}

/// Una validación, y cuánto lleva.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ValidationView {
    id: Uuid,
    /// pending, running, completed, failed o cancelled.
    status: &'static str,
    filter: Segment,
    budget: i64,
    /// Consultas que se cobraron, o que quizá se cobraron.
    spent: i64,
    /// Contactos por los que se pregunta, hasta el presupuesto, cuando se conocen.
    total: Option<i64>,
    /// Los que tienen resultado: `processed = answered + refused`.
    processed: i64,
    answered: i64,
    /// Números que el proveedor no quiso consultar.
    refused: i64,
    /// Contactos de los que ahora se sabe algo que antes no, o de otra manera.
    changed: i64,
    percent: Option<f64>,
    per_second: Option<f64>,
    eta_seconds: Option<i64>,
    /// De una validación que falló, o que espera para intentarlo de nuevo.
    error: Option<String>,
    created_by: String,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl ValidationView {
    fn of(validation: Validation, job: &Job) -> Self {
        let progress = job.progress;
        let pace = Pace::of(job, Utc::now());
        Self {
            id: validation.id,
            status: job.state.name(),
            filter: validation.filter,
            budget: validation.budget,
            spent: validation.spent,
            total: progress.total,
            processed: progress.processed,
            answered: progress.successful,
            refused: progress.failed,
            changed: validate_contacts::changed(job),
            percent: percent(progress.processed, progress.total),
            per_second: pace.per_second.map(|rate| (10.0 * rate).round() / 10.0),
            eta_seconds: pace.eta_seconds,
            error: job.error.clone(),
            created_by: validation.created_by,
            created_at: validation.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
        }
    }
}

/// Una página de validaciones, de la más reciente a la más antigua.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ValidationPage {
    items: Vec<ValidationView>,
    /// Se envía como `cursor` para pedir la página siguiente; nulo en la última.
    next_cursor: Option<Uuid>,
}

/// Below which each validation is.
const LIST: &str = "/api/v1/contacts/validations";
const ACCEPTED: &str = "Validación recibida y encolada para procesamiento";

/// Asks a provider about the numbers of contacts: whose they are, of which type, whether they can be.
#[utoipa::path(
    operation_id = "validations_create", summary = "Validar números con un proveedor",
    description = "Pregunta a un proveedor por los números de contactos: de quién son, de qué tipo, si existen.",
    post, path = "/api/v1/contacts/validations", tag = "contacts", request_body = ValidationRequest,
    params(IdempotencyKey),
    responses(
        (status = 202, body = Accepted),
        (status = 409, description = "Sin proveedor configurado, o Idempotency-Key ya usada con otra petición"),
        (status = 422),
    )
)]
pub(super) async fn start(
    api: Data<Resources>,
    caller: Caller,
    key: IdempotencyKey,
    request: Json<ValidationRequest>,
) -> ApiResult {
    may_administer(&caller)?;
    let hash = request_hash(&[&serde_json::to_vec(&*request).map_err(Problem::internal)?]);
    let ValidationRequest { filter, budget, again_after_days } = request.into_inner();
    let filter =
        filter.checked().map_err(|error| Problem::unprocessable("invalid_segment", error.to_string()))?;
    if filter.sample.is_some() {
        let detail = "sample no aplica a una validación; limite las consultas con budget";
        return Err(Problem::unprocessable("invalid_segment", detail));
    }
    if !(1..=MOST).contains(&budget) {
        let detail = format!("budget es {budget}; se espera de 1 a {MOST} consultas");
        return Err(Problem::unprocessable("invalid_budget", detail));
    }
    let days = again_after_days.unwrap_or(STANDS);
    if days > MOST_DAYS {
        let detail = format!("again_after_days es {days}; se espera de 0 a {MOST_DAYS}");
        return Err(Problem::unprocessable("invalid_days", detail));
    }
    if api.lookups.telnyx.is_none() {
        let detail = "No hay proveedor de consultas configurado (TELNYX_API_KEY)";
        return Err(Problem::conflict("no_provider", detail));
    }
    let now = Utc::now();
    let fresh_since = now.checked_sub_days(Days::new(u64::from(days))).unwrap_or(now);
    let id = Uuid::now_v7();
    let kind = validate_contacts::kind(&api.lookups);
    let job = NewJob { id, idempotency_key: key.0, request_hash: Some(hash), ..kind.job(caller.id()) };
    let mut transaction = api.database.pool.begin().await?;
    let created = kind.create(&mut transaction, job, request_id()).await?;
    if let Creation::Existing(first) = created {
        return Ok(Accepted::respond(ACCEPTED, LIST, first.id));
    }
    validations::insert(&mut transaction, id, &filter, budget, fresh_since, caller.id()).await?;
    let details = json!({ "filter": filter, "budget": budget, "again_after_days": days });
    audit::record(&mut transaction, caller.id(), "validation_started", Some(&id.to_string()), &details)
        .await?;
    transaction.commit().await?;
    Ok(Accepted::respond(ACCEPTED, LIST, id))
}

/// Validations, the latest first.
#[utoipa::path(
    operation_id = "validations_list", summary = "Listar validaciones",
    description = "De la más reciente a la más antigua.",
    get, path = "/api/v1/contacts/validations", tag = "contacts", params(PageQuery),
    responses((status = 200, body = ValidationPage))
)]
pub(super) async fn list(
    api: Data<Resources>,
    caller: Caller,
    query: Query<PageQuery>,
) -> ApiResult<Json<ValidationPage>> {
    may_watch(&caller)?;
    let limit = query.limit()?;
    let found = validations::list(&api.database.pool, query.cursor, limit + 1).await?;
    let (found, next_cursor) =
        job_requests::with_jobs(&api, found, limit, |validation| validation.id).await?;
    let view = |(validation, job): (Validation, Option<Job>)| Some(ValidationView::of(validation, &job?));
    let items = found.into_iter().filter_map(view).collect();
    Ok(Json(ValidationPage { items, next_cursor }))
}

async fn found(api: &Resources, id: &str) -> Result<(Validation, Job), Problem> {
    let not_found = || Problem::not_found(format!("Validación {id} no encontrada"));
    let uuid = Uuid::parse_str(id).map_err(|_| not_found())?;
    let validation = validations::get(&api.database.pool, uuid).await?.ok_or_else(not_found)?;
    let mut conn = api.database.pool.acquire().await?;
    let job = jobs::get(&mut conn, uuid).await?.ok_or_else(not_found)?;
    Ok((validation, job))
}

/// How far a validation is, and what it came to.
#[utoipa::path(
    operation_id = "validations_get", summary = "Ver el avance de una validación",
    description = "",
    get, path = "/api/v1/contacts/validations/{id}", tag = "contacts", params(("id" = String, Path)),
    responses((status = 200, body = ValidationView))
)]
pub(super) async fn get(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
) -> ApiResult<Json<ValidationView>> {
    may_watch(&caller)?;
    let (validation, job) = found(&api, &id).await?;
    Ok(Json(ValidationView::of(validation, &job)))
}

/// Stops a validation at its next look-ups; what is known by then stays known.
#[utoipa::path(
    operation_id = "validations_cancel", summary = "Cancelar una validación",
    description = "Se detiene en sus siguientes consultas; lo que ya se sabe queda.",
    post, path = "/api/v1/contacts/validations/{id}/cancel", tag = "contacts", params(("id" = String, Path)),
    responses(
        (status = 202, body = ValidationView), (status = 409, description = "La validación ya terminó"),
    )
)]
pub(super) async fn cancel(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_administer(&caller)?;
    let (validation, _) = found(&api, &id).await?;
    let ended = "La validación ya terminó";
    let job = job_requests::cancel(&api, &caller, validation.id, "validation_cancelled", ended).await?;
    Ok(HttpResponse::Accepted().json(ValidationView::of(validation, &job)))
}

/// Lets a validation that failed or was cancelled go on where it was, within what is left of its budget.
#[utoipa::path(
    operation_id = "validations_retry", summary = "Reintentar una validación",
    description = "Sigue donde quedó, con lo que le queda de presupuesto.",
    post, path = "/api/v1/contacts/validations/{id}/retry", tag = "contacts", params(("id" = String, Path)),
    responses(
        (status = 202, body = ValidationView),
        (status = 409, description = "La validación no falló ni fue cancelada"),
    )
)]
pub(super) async fn retry(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_administer(&caller)?;
    let (validation, _) = found(&api, &id).await?;
    let mut transaction = api.database.pool.begin().await?;
    let job = jobs::reopen(&mut transaction, validation.id).await?;
    let refused = || Problem::conflict("not_retryable", "La validación no falló ni fue cancelada");
    let job = job.ok_or_else(refused)?;
    let kind = validate_contacts::kind(&api.lookups);
    kind.nudge(&mut transaction, &[validation.id], request_id()).await?;
    audit::record(&mut transaction, caller.id(), "validation_retried", Some(&id), &Value::Null).await?;
    transaction.commit().await?;
    Ok(HttpResponse::Accepted().json(ValidationView::of(validation, &job)))
}
