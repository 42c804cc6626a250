//! What a person can do with an upload after it was accepted.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    Problem,
    auth::{Caller, Role},
};
use jobs::{Creation, JobKind, NewJob};
use sea_orm::sqlx::{PgConnection, PgTransaction};
use uuid::Uuid;

use super::{
    Resources,
    imports::{Accepted, READ, WRITE},
};
use crate::{
    jobs::{process_import, undo_import},
    status::Status,
    storage::{
        imports::{self, Import, Kind, Options, Source},
        reports, undo,
    },
};

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
    let user = job.user.clone().unwrap_or_default();
    let created = job_kind(api, options).create(&mut *conn, job, chassis::http::request_id()).await;
    let created = created.map_err(|error| match error {
        jobs::Error::KeyReused(_) => {
            Problem::conflict("idempotency_key_reused", "Idempotency-Key ya fue usada con otra petición")
        }
        error => anyhow::Error::new(error).into(),
    })?;
    if let Creation::Created(job) = &created {
        imports::create(conn, job.id, source, options, &user).await?;
    }
    Ok(created)
}

/// What does such a task.
pub(super) fn job_kind(api: &Resources, options: &Options) -> JobKind {
    match options.kind {
        Kind::Undo => undo_import::kind(&api.settings),
        Kind::Import | Kind::DryRun => process_import::kind(&api.settings),
    }
}

fn accepted(message: &'static str, import: &Import) -> HttpResponse {
    let accepted = Accepted::new(message, import.id, Status::of(import).status, &import.source);
    accepted.respond()
}

/// Ends a task that waits or runs, at its next batch. What was applied until then stays, and its status says
/// how much that is.
#[utoipa::path(
    operation_id = "imports_cancel", summary = "Cancelar una carga",
    description = "Termina una tarea que espera o está en marcha, en su siguiente bloque. Lo aplicado hasta entonces queda.",
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/cancel", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted),         (status = 409, description = "La tarea ya terminó"),
    )
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
    operation_id = "imports_retry", summary = "Reintentar una carga",
    description = "Una tarea que falló o fue cancelada sigue después de la última fila cuyo resultado se conoce.",
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/retry", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted),         (status = 409, description = "La tarea no falló, fue revertida o es demasiado antigua"),
    )
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
    operation_id = "imports_apply", summary = "Aplicar una simulación",
    description = "Crea una tarea nueva, cuyas filas se juzgan con el catálogo que haya entonces.",
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/apply", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted),         (status = 409, description = "No es una simulación completada"),
    )
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
    let import = follow_up(&mut transaction, &api, &caller, &plan.source, &options).await?;
    transaction.commit().await?;
    Ok(accepted("La simulación se aplicará", &import))
}

/// Takes back what an import did: what it created is removed and what it updated gets its values back, unless
/// somebody changed it since.
#[utoipa::path(
    operation_id = "imports_undo", summary = "Revertir una carga",
    description = "Elimina lo que creó y devuelve sus valores a lo que actualizó, salvo lo que alguien haya cambiado después.",
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/undo", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted),         (status = 409, description = "No hay nada que revertir, o la tarea no ha terminado"),
    )
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
    let import = follow_up(&mut transaction, &api, &caller, &import.source, &options).await?;
    transaction.commit().await?;
    Ok(accepted("La carga se revertirá", &import))
}

/// A task about another task's file.
async fn follow_up(
    conn: &mut PgConnection,
    api: &Resources,
    caller: &Caller,
    source: &Source,
    options: &Options,
) -> Result<Import, Problem> {
    let job = job_kind(api, options).job(caller.id());
    let id = job.id;
    begin(conn, api, job, source, options).await?;
    imports::get(conn, id).await?.ok_or_else(|| Problem::internal(anyhow::anyhow!("the task {id} is gone")))
}
