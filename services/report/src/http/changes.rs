//! What a person can do with a run after it was asked for.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{ApiResult, Problem, auth::Caller, db::Orm};
use sea_orm::{
    DbErr,
    sqlx::{PgConnection, PgTransaction},
};
use uuid::Uuid;

use super::{
    Resources, may_write,
    reports::{Report, named},
};
use crate::storage::{
    files::{self, File},
    runs::{self, Run},
};

/// A run that somebody changes.
struct Held {
    transaction: PgTransaction<'static>,
    run: Run,
    /// Jobs of the files that are not made.
    jobs: Vec<Uuid>,
    /// Whether each of these files has one.
    begun: bool,
}

/// The run that the caller names and may change. It and its jobs stay as they are until the transaction ends.
///
/// The jobs are locked before the run: so does whoever ends a file's job, and in the other order each could wait for
/// the other.
async fn held(api: &Resources, caller: &Caller, id: &str) -> Result<Held, Problem> {
    may_write(caller)?;
    let id = named(api, id).await?.id;
    let none = || Problem::not_found(format!("Reporte {id} no encontrado"));
    loop {
        let mut transaction = api.database.pool.begin().await?;
        let missing = missing(&mut transaction, id).await?;
        let mut wanted = jobs_of(&missing);
        wanted.push(id);
        jobs::lock(&mut transaction, &wanted).await?;
        let run = runs::lock(&mut transaction, id).await?.ok_or_else(none)?;
        let missing = self::missing(&mut transaction, id).await?;
        let jobs = jobs_of(&missing);
        if jobs.iter().all(|job| wanted.contains(job)) {
            let begun = jobs.len() == missing.len();
            return Ok(Held { transaction, run, jobs, begun });
        }
        // Its files were given their jobs just now.
        transaction.rollback().await?;
    }
}

/// The files that are not made.
async fn missing(conn: &mut PgConnection, run: Uuid) -> Result<Vec<File>, DbErr> {
    let mut files = files::of_run(&Orm::on(conn), run).await?;
    files.retain(|file| file.object_key.is_none());
    Ok(files)
}

fn jobs_of(files: &[File]) -> Vec<Uuid> {
    files.iter().filter_map(|file| file.job_id).collect()
}

/// Asks for a run's end. Files that are made stay; those under way end at their next piece.
#[utoipa::path(
    operation_id = "reports_cancel", summary = "Cancelar un reporte",
    description = "Los archivos hechos quedan; los que están en marcha terminan en su siguiente bloque.",
    post, path = "/api/v1/reports/{id}/cancel", tag = "report", params(("id" = String, Path)),
    responses((status = 202, body = Report), (status = 409, description = "Ya terminó"))
)]
pub(super) async fn cancel(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    let Held { mut transaction, run, mut jobs, .. } = held(&api, &caller, &id).await?;
    let id = run.id;
    if run.is_final() {
        return Err(Problem::conflict("finished", "El reporte ya terminó"));
    }
    runs::request_cancel(&mut transaction, id).await?;
    jobs.push(id);
    jobs::request_cancel_all(&mut transaction, &jobs).await?;
    transaction.commit().await?;
    respond(&api, id).await
}

/// Begins the failed files of a run again; those that are made stay as they are.
#[utoipa::path(
    operation_id = "reports_retry", summary = "Reintentar un reporte",
    description = "Vuelve a hacer los archivos que fallaron; los hechos quedan como están.",
    post, path = "/api/v1/reports/{id}/retry", tag = "report", params(("id" = String, Path)),
    responses(
        (status = 202, body = Report),
        (status = 409, description = "No terminó, o no tiene archivos fallidos"),
    )
)]
pub(super) async fn retry(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    let Held { mut transaction, run, mut jobs, begun } = held(&api, &caller, &id).await?;
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
    if !begun {
        // Those without a job are given one by the run's own.
        jobs.push(id);
    }
    jobs::reopen_all(&mut transaction, &jobs).await?;
    runs::reopened(&mut transaction, id).await?;
    transaction.commit().await?;
    respond(&api, id).await
}

async fn respond(api: &Resources, id: Uuid) -> ApiResult {
    let run = named(api, &id.to_string()).await?;
    Ok(HttpResponse::Accepted().json(Report::of(run, None)))
}
