//! What a person can do with an upload after it was accepted.

use actix_web::{
    HttpResponse,
    web::{self, Data, Path, ServiceConfig},
};
use chassis::{
    Problem,
    auth::{Caller, Role},
};
use contracts::catalog::v1::{ProcessImport, UndoImport};
use jobs::{Creation, NewJob};
use sea_orm::sqlx::{PgConnection, PgTransaction};
use uuid::Uuid;

use super::{
    Resources,
    imports::{Accepted, READ, WRITE},
};
use crate::{
    SERVICE,
    jobs::{process_import, undo_import},
    status::Status,
    storage::{
        imports::{self, Import, Kind, Options, Source},
        reports, undo,
    },
};

pub fn configure(config: &mut ServiceConfig) {
    config
        .route("/bulk-upload/{task_id}/cancel", web::post().to(cancel))
        .route("/bulk-upload/{task_id}/retry", web::post().to(retry))
        .route("/bulk-upload/{task_id}/apply", web::post().to(apply))
        .route("/bulk-upload/{task_id}/undo", web::post().to(undo_import));
}

fn not_found(task_id: &str) -> Problem {
    Problem::not_found(format!("Tarea {task_id} no encontrada"))
}

/// The import that the caller names and may see.
pub(super) async fn seen(api: &Resources, caller: &Caller, task_id: &str) -> Result<Import, Problem> {
    caller.require_scope(READ)?;
    let id = Uuid::parse_str(task_id).map_err(|_| not_found(task_id))?;
    let import = imports::get(&api.database.pool, id).await?.ok_or_else(|| not_found(task_id))?;
    if caller.may_see(&import.source.proveedor_id) { Ok(import) } else { Err(not_found(task_id)) }
}

/// The import that the caller names and may change.
pub(super) async fn owned(api: &Resources, caller: &Caller, task_id: &str) -> Result<Import, Problem> {
    caller.require(&[Role::Admin, Role::Operator, Role::Supplier])?;
    caller.require_scope(WRITE)?;
    let import = seen(api, caller, task_id).await?;
    let proveedor_id = &import.source.proveedor_id;
    if caller.may_act_for(proveedor_id) {
        Ok(import)
    } else {
        Err(Problem::forbidden(format!("No puede cambiar las cargas del proveedor {proveedor_id}")))
    }
}

/// The same import, which stays as it is until the transaction ends.
async fn held(
    api: &Resources,
    caller: &Caller,
    task_id: &str,
) -> Result<(PgTransaction<'static>, Import), Problem> {
    let id = owned(api, caller, task_id).await?.id;
    let mut transaction = api.database.pool.begin().await?;
    let import = imports::lock(&mut transaction, id).await?.ok_or_else(|| not_found(task_id))?;
    Ok((transaction, import))
}

/// The import that the caller names and may see, with its file and ledger.
pub(super) async fn kept(api: &Resources, caller: &Caller, task_id: &str) -> Result<Import, Problem> {
    let import = seen(api, caller, task_id).await?;
    unpurged(&import)?;
    Ok(import)
}

/// Files and ledgers are kept for a time.
pub(super) fn unpurged(import: &Import) -> Result<(), Problem> {
    match import.purged_at {
        None => Ok(()),
        Some(at) => Err(Problem::conflict(
            "purged",
            format!(
                "El archivo y el detalle de esta carga se eliminaron el {} por su antigüedad",
                at.format("%Y-%m-%d")
            ),
        )),
    }
}

/// Holds the task that another one rests on until the transaction ends, so that nobody deletes what it needs.
///
/// # Errors
/// 409 where that is deleted already.
pub(super) async fn hold_base(conn: &mut PgConnection, base: Uuid) -> Result<(), Problem> {
    match imports::lock(conn, base).await? {
        Some(base) => unpurged(&base),
        None => Err(not_found(&base.to_string())),
    }
}

/// A task of an import's kind that begins now, in the caller's transaction.
pub(super) async fn begin(
    conn: &mut PgConnection,
    api: &Resources,
    job: NewJob<'_>,
    source: &Source,
    options: &Options,
) -> Result<Creation, Problem> {
    let max_attempts = api.settings.max_attempts;
    let user = job.user.clone().unwrap_or_default();
    let created = jobs::create(conn, NewJob { max_attempts, ..job }).await.map_err(|error| match error {
        jobs::Error::KeyReused(_) => {
            Problem::conflict("idempotency_key_reused", "Idempotency-Key ya fue usada con otra petición")
        }
        error => anyhow::Error::new(error).into(),
    })?;
    if let Creation::Created(job) = &created {
        imports::create(conn, job.id, source, options, &user).await?;
        let task_id = job.id.to_string();
        let meta = outbox::Meta::about(job.id).correlated(chassis::http::request_id());
        let published = match options.kind {
            Kind::Undo => outbox::publish(conn, SERVICE, &UndoImport { task_id }, meta).await,
            Kind::Import | Kind::DryRun => {
                outbox::publish(conn, SERVICE, &ProcessImport { task_id }, meta).await
            }
        };
        published.map_err(anyhow::Error::new)?;
    }
    Ok(created)
}

fn accepted(message: &'static str, import: &Import) -> HttpResponse {
    let accepted = Accepted::new(message, import.id, Status::of(import).status, &import.source);
    accepted.respond()
}

/// Ends a task that waits or runs, at its next batch. What was applied until then stays, and its status says
/// how much that is.
#[utoipa::path(
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/cancel", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted), (status = 401), (status = 403), (status = 404),
        (status = 409, description = "La tarea ya terminó"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn cancel(
    api: Data<Resources>,
    caller: Caller,
    task_id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let import = owned(&api, &caller, &task_id).await?;
    let mut transaction = api.database.pool.begin().await?;
    let job = jobs::request_cancel(&mut transaction, import.id).await.map_err(anyhow::Error::new)?;
    let job = job.ok_or_else(|| not_found(&task_id))?;
    if job.state.is_final() {
        let detail = format!("La tarea {} ya terminó; no se puede cancelar", import.id);
        return Err(Problem::conflict("task_finished", detail));
    }
    transaction.commit().await?;
    tracing::info!(import = %import.id, by = caller.id(), "cancel asked for");
    Ok(accepted("Se cancelará la tarea", &import))
}

/// Lets a failed or cancelled task go on after the last row whose outcome is known.
#[utoipa::path(
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/retry", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted), (status = 401), (status = 403), (status = 404),
        (status = 409, description = "La tarea no falló, fue revertida o es demasiado antigua"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn retry(
    api: Data<Resources>,
    caller: Caller,
    task_id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (mut transaction, import) = held(&api, &caller, &task_id).await?;
    let id = import.id;
    unpurged(&import)?;
    if imports::undoing(&mut *transaction, id).await?.is_some() {
        return Err(Problem::conflict("undone", "La carga fue revertida; vuelva a subir el archivo"));
    }
    if jobs::reopen(&mut transaction, id).await.map_err(anyhow::Error::new)?.is_none() {
        let detail = "Solo se puede reintentar una tarea que falló o fue cancelada";
        return Err(Problem::conflict("not_failed", detail));
    }
    // What this one rests on may be past its days by now, and stays from here on: live tasks keep it.
    for base in [import.options.applies, import.options.corrects, import.options.undoes].into_iter().flatten()
    {
        hold_base(&mut transaction, base).await?;
    }
    // What it says of the rows is no longer all.
    reports::forget_of(&mut transaction, id).await?;
    imports::go_on(&mut transaction, id).await?;
    let import = imports::get(&mut *transaction, id).await?.ok_or_else(|| not_found(&task_id))?;
    transaction.commit().await?;
    api.statuses.put(import.version, &Status::of(&import)).await;
    tracing::info!(import = %id, by = caller.id(), "retry asked for");
    Ok(accepted("Se reintentará la tarea", &import))
}

/// Carries a dry run out: a task of its own, whose rows are judged by the catalog as it is by then.
#[utoipa::path(
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/apply", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted), (status = 401), (status = 403), (status = 404),
        (status = 409, description = "No es una simulación completada"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn apply(
    api: Data<Resources>,
    caller: Caller,
    task_id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (mut transaction, plan) = held(&api, &caller, &task_id).await?;
    let id = plan.id;
    if plan.options.kind != Kind::DryRun || plan.state != "completed" {
        let detail = "Solo se puede aplicar una simulación (dry_run=true) que se completó";
        return Err(Problem::conflict("not_a_dry_run", detail));
    }
    if let Some(first) = imports::applying(&mut *transaction, id).await? {
        return Ok(accepted("La simulación ya se aplicó", &first));
    }
    unpurged(&plan)?;
    let options = Options { kind: Kind::Import, applies: Some(id), ..plan.options.clone() };
    let import =
        follow_up(&mut transaction, &api, &caller, process_import::KIND, &plan.source, &options).await?;
    transaction.commit().await?;
    Ok(accepted("La simulación se aplicará", &import))
}

/// Takes back what an import did: what it created is removed and what it updated gets its values back, unless
/// somebody changed it since.
#[utoipa::path(
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/undo", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted), (status = 401), (status = 403), (status = 404),
        (status = 409, description = "No hay nada que revertir, o la tarea no ha terminado"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn undo_import(
    api: Data<Resources>,
    caller: Caller,
    task_id: Path<String>,
) -> Result<HttpResponse, Problem> {
    let (mut transaction, import) = held(&api, &caller, &task_id).await?;
    let id = import.id;
    match import.options.kind {
        Kind::Undo => {
            let detail = "Una reversión no se puede revertir; vuelva a subir el archivo original";
            return Err(Problem::conflict("undo_of_undo", detail));
        }
        Kind::DryRun => {
            let detail = "Una simulación no escribe nada; no hay qué revertir";
            return Err(Problem::conflict("nothing_to_undo", detail));
        }
        Kind::Import => {}
    }
    if let Some(first) = imports::undoing(&mut *transaction, id).await? {
        return Ok(accepted("La carga ya se revierte", &first));
    }
    if !import.has_ended() {
        let detail = "La carga no ha terminado; cancélela o espere antes de revertirla";
        return Err(Problem::conflict("not_finished", detail));
    }
    unpurged(&import)?;
    if undo::count(&mut *transaction, id).await? == 0 {
        let detail = "La carga no creó ni actualizó productos; no hay qué revertir";
        return Err(Problem::conflict("nothing_to_undo", detail));
    }
    let options =
        Options { kind: Kind::Undo, undoes: Some(id), applies: None, corrects: None, ..import.options };
    let import =
        follow_up(&mut transaction, &api, &caller, undo_import::KIND, &import.source, &options).await?;
    transaction.commit().await?;
    Ok(accepted("La carga se revertirá", &import))
}

/// A task about another task's file.
async fn follow_up(
    conn: &mut PgConnection,
    api: &Resources,
    caller: &Caller,
    kind: &'static str,
    source: &Source,
    options: &Options,
) -> Result<Import, Problem> {
    let job = NewJob::plain(kind, caller.id(), api.settings.max_attempts);
    let id = job.id;
    begin(conn, api, job, source, options).await?;
    imports::get(conn, id).await?.ok_or_else(|| Problem::internal(anyhow::anyhow!("the task {id} is gone")))
}
