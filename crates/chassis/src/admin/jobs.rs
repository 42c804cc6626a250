use ::jobs::{Filter, Job, Page, State, workers};
use actix_web::web::Data;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Context, READ, operators_only};
use crate::{
    auth::Caller,
    http::{ApiResult, Json, Query},
};

/// El estado de un trabajo.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what another crate's type is written as")]
enum JobState {
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// Un trabajo, sin su contenido.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobRow {
    id: Uuid,
    /// La clase de trabajo.
    kind: String,
    /// `pending`, `running`, `completed`, `failed` o `cancelled`.
    #[schema(value_type = JobState)]
    state: &'static str,
    /// El proceso que lo tiene.
    owner: Option<String>,
    lease_until: Option<DateTime<Utc>>,
    /// Intentos desde que avanzó por última vez.
    attempts: i32,
    max_attempts: i32,
    next_run_at: DateTime<Utc>,
    total: Option<i64>,
    processed: i64,
    successful: i64,
    failed: i64,
    error: Option<String>,
    cancel_requested: bool,
    /// Quién lo creó.
    user: Option<String>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    updated_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl From<Job> for JobRow {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            kind: job.kind,
            state: job.state.name(),
            owner: job.owner,
            lease_until: job.lease_until,
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            next_run_at: job.next_run_at,
            total: job.progress.total,
            processed: job.progress.processed,
            successful: job.progress.successful,
            failed: job.progress.failed,
            error: job.error,
            cancel_requested: job.cancel_requested_at.is_some(),
            user: job.user,
            created_at: job.created_at,
            started_at: job.started_at,
            updated_at: job.updated_at,
            finished_at: job.finished_at,
        }
    }
}

/// Una página, del más reciente al más antiguo.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobPage {
    items: Vec<JobRow>,
    /// Se envía como `after` para pedir la página siguiente; falta en la última.
    next: Option<String>,
}

/// Which jobs, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct JobQuery {
    /// La clase de trabajo.
    kind: Option<String>,
    /// `pending`, `running`, `completed`, `failed` o `cancelled`.
    #[param(value_type = Option<JobState>)]
    state: Option<State>,
    /// Quién lo creó.
    user: Option<String>,
    /// El `next` de la página anterior.
    after: Option<String>,
    /// Trabajos por página, de 1 a 200; 50 si falta.
    #[serde(default)]
    size: u32,
}

/// Lists the service's jobs.
#[utoipa::path(
    operation_id = "jobs_list", summary = "Listar las tareas del servicio",
    description = "De la más reciente a la más antigua.",
    get, path = "/jobs", tag = "admin", params(JobQuery),
    responses((status = 200, body = JobPage))
)]
pub(super) async fn list(
    caller: Caller,
    context: Data<Context>,
    query: Query<JobQuery>,
) -> ApiResult<Json<JobPage>> {
    operators_only(&caller, READ)?;
    let JobQuery { kind, state, user, after, size } = query.into_inner();
    let page = ::jobs::list(&context.pool, &Filter { kind, state, user }, &Page { after, size })
        .await
        .map_err(anyhow::Error::from)?;
    Ok(Json(JobPage { items: page.items.into_iter().map(JobRow::from).collect(), next: page.next }))
}

/// Un proceso que dio señales en el último minuto.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkerRow {
    id: Uuid,
    host: String,
    pid: i32,
    version: String,
    queues: Vec<String>,
    /// Lo que hace en este momento.
    #[schema(value_type = Vec<Object>)]
    working: Vec<::jobs::Activity>,
    started_at: DateTime<Utc>,
    seen_at: DateTime<Utc>,
}

/// Lists the service's workers that live.
#[utoipa::path(
    operation_id = "workers_list", summary = "Listar los procesos vivos del servicio",
    description = "Y en qué trabaja cada uno.",
    get, path = "/workers", tag = "admin",
    responses((status = 200, body = [WorkerRow]))
)]
pub(super) async fn at_work(caller: Caller, context: Data<Context>) -> ApiResult<Json<Vec<WorkerRow>>> {
    operators_only(&caller, READ)?;
    let workers = workers::list(&context.pool).await.map_err(anyhow::Error::from)?;
    let rows = workers.into_iter().map(|worker| WorkerRow {
        id: worker.id,
        host: worker.host,
        pid: worker.pid,
        version: worker.version,
        queues: worker.queues,
        working: worker.working,
        started_at: worker.started_at,
        seen_at: worker.seen_at,
    });
    Ok(Json(rows.collect()))
}
