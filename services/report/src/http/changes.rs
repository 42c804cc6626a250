//! What a person can do with a run after it was asked for.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{Problem, auth::Caller, db::Orm};
use sea_orm::sqlx::PgTransaction;
use uuid::Uuid;

use super::{
    Resources, may_write,
    reports::{Report, named},
};
use crate::storage::{
    files::{self, File},
    runs::{self, Run},
};

/// The run that the caller names and may change, which stays as it is until the transaction ends, with its files.
async fn held(
    api: &Resources,
    caller: &Caller,
    id: &str,
) -> Result<(PgTransaction<'static>, Run, Vec<File>), Problem> {
    may_write(caller)?;
    let id = named(api, id).await?.id;
    let mut transaction = api.database.pool.begin().await?;
    let none = || Problem::not_found(format!("Reporte {id} no encontrado"));
    let run = runs::lock(&mut transaction, id).await?.ok_or_else(none)?;
    let files = files::of_run(&Orm::on(&mut transaction), id).await?;
    Ok((transaction, run, files))
}

/// Asks for a run's end. Files that are made stay; those under way end at their next piece.
#[utoipa::path(
    operation_id = "reports_cancel", summary = "Cancelar un reporte",
    description = "Los archivos hechos quedan; los que están en marcha terminan en su siguiente bloque.",
    post, path = "/api/v1/reports/{id}/cancel", tag = "report", params(("id" = String, Path)),
    responses(
        (status = 202, body = Report),         (status = 409, description = "Ya terminó"),
    )
)]
pub(super) async fn cancel(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (mut transaction, run, files) = held(&api, &caller, &id).await?;
    let id = run.id;
    if run.is_final() {
        return Err(Problem::conflict("finished", "El reporte ya terminó"));
    }
    runs::request_cancel(&mut transaction, id).await?;
    let jobs = files.iter().filter(|file| file.object_key.is_none()).filter_map(|file| file.job_id);
    for job in std::iter::once(id).chain(jobs) {
        jobs::request_cancel(&mut transaction, job).await.map_err(anyhow::Error::new)?;
    }
    transaction.commit().await?;
    respond(&api, id).await
}

/// Begins the failed files of a run again; those that are made stay as they are.
#[utoipa::path(
    operation_id = "reports_retry", summary = "Reintentar un reporte",
    description = "Vuelve a hacer los archivos que fallaron; los hechos quedan como están.",
    post, path = "/api/v1/reports/{id}/retry", tag = "report", params(("id" = String, Path)),
    responses(
        (status = 202, body = Report),         (status = 409, description = "No terminó, o no tiene archivos fallidos"),
    )
)]
pub(super) async fn retry(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (mut transaction, run, files) = held(&api, &caller, &id).await?;
    let id = run.id;
    if !run.is_final() || run.failed == 0 {
        return Err(Problem::conflict(
            "nothing_failed",
            "El reporte no terminó, o no tiene archivos fallidos",
        ));
    }
    if run.purged_at.is_some() {
        return Err(Problem::conflict(
            "purged",
            "Los archivos de este reporte se eliminaron por su antigüedad",
        ));
    }
    // Those without a job are given one by the run's own.
    let failed = files.iter().filter(|file| file.object_key.is_none());
    let jobs: Vec<Uuid> = failed.map(|file| file.job_id.unwrap_or(id)).collect();
    let mut reopened = std::collections::HashSet::new();
    for job in jobs {
        if reopened.insert(job) {
            jobs::reopen(&mut transaction, job).await.map_err(anyhow::Error::new)?;
        }
    }
    runs::reopened(&mut transaction, id).await?;
    transaction.commit().await?;
    respond(&api, id).await
}

async fn respond(api: &Resources, id: Uuid) -> Result<HttpResponse, Problem> {
    let run = named(api, &id.to_string()).await?;
    Ok(HttpResponse::Accepted().json(Report::of(run, None)))
}
