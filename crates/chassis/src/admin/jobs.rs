use ::jobs::{Filter, Job, Page, State, workers};
use actix_web::web::Data;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Context, READ, operators_only};
use crate::{
    Problem,
    auth::Caller,
    http::{Json, Query},
};

/// The names of [`State`], for the document.
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

/// A job, without what it is about.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobRow {
    id: Uuid,
    /// What kind of work.
    kind: String,
    /// `pending`, `running`, `completed`, `failed` or `cancelled`.
    #[schema(value_type = JobState)]
    state: &'static str,
    /// The worker that holds it.
    owner: Option<String>,
    lease_until: Option<DateTime<Utc>>,
    /// Claims since it last made progress.
    attempts: i32,
    max_attempts: i32,
    next_run_at: DateTime<Utc>,
    total: Option<i64>,
    processed: i64,
    successful: i64,
    failed: i64,
    error: Option<String>,
    cancel_requested: bool,
    /// Who created it.
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

/// A page, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobPage {
    items: Vec<JobRow>,
    /// Send it as `after` for the next page; absent on the last.
    next: Option<String>,
}

/// Which jobs, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct JobQuery {
    /// The kind of work.
    kind: Option<String>,
    /// `pending`, `running`, `completed`, `failed` or `cancelled`.
    #[param(value_type = Option<JobState>)]
    state: Option<State>,
    /// Who created it.
    user: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    /// Jobs a page, 1 to 200; 50 if absent.
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
) -> Result<Json<JobPage>, Problem> {
    operators_only(&caller, READ)?;
    let JobQuery { kind, state, user, after, size } = query.into_inner();
    let page = ::jobs::list(&context.pool, &Filter { kind, state, user }, &Page { after, size })
        .await
        .map_err(anyhow::Error::from)?;
    Ok(Json(JobPage { items: page.items.into_iter().map(JobRow::from).collect(), next: page.next }))
}

/// A worker process that was heard of within the last minute.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkerRow {
    id: Uuid,
    host: String,
    pid: i32,
    version: String,
    queues: Vec<String>,
    /// What it does right now.
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
pub(super) async fn at_work(caller: Caller, context: Data<Context>) -> Result<Json<Vec<WorkerRow>>, Problem> {
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
