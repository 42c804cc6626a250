//! What a person can do with an upload after it was accepted.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{ApiResult, auth::Caller};

use super::{Resources, accepted::Accepted, access::owned};
use crate::tasks::{self, Answer};

fn accepted((message, import): Answer) -> HttpResponse {
    Accepted::of(message, &import).respond()
}

/// Ends a task that waits or runs, at its next batch. What was applied until then stays, and its status says
/// how much that is.
#[utoipa::path(
    operation_id = "imports_cancel", summary = "Cancelar una carga",
    description = "Termina una tarea que espera o está en marcha, en su siguiente bloque. Lo aplicado hasta entonces queda.",
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/cancel", tag = "catalog",
    params(("task_id" = String, Path)),
    responses((status = 202, body = Accepted), (status = 409, description = "La tarea ya terminó"))
)]
pub(super) async fn cancel(api: Data<Resources>, caller: Caller, task_id: Path<String>) -> ApiResult {
    let import = owned(&api, &caller, &task_id).await?;
    let cancelled = tasks::cancel(&api, import).await?;
    tracing::info!(import = %cancelled.1.id, by = caller.id(), "cancel requested");
    Ok(accepted(cancelled))
}

/// Lets a failed or cancelled task go on after the last row whose outcome is known.
#[utoipa::path(
    operation_id = "imports_retry", summary = "Reintentar una carga",
    description = "Una tarea que falló o fue cancelada sigue después de la última fila cuyo resultado se conoce.",
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/retry", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted),
        (status = 409, description = "La tarea no falló, fue revertida o es demasiado antigua"),
    )
)]
pub(super) async fn retry(api: Data<Resources>, caller: Caller, task_id: Path<String>) -> ApiResult {
    let id = owned(&api, &caller, &task_id).await?.id;
    let retried = tasks::retry(&api, id).await?;
    tracing::info!(import = %id, by = caller.id(), "retry requested");
    Ok(accepted(retried))
}

/// Carries a dry run out: a task of its own, whose rows are judged by the catalog as it is by then.
#[utoipa::path(
    operation_id = "imports_apply", summary = "Aplicar una simulación",
    description = "Crea una tarea nueva, cuyas filas se juzgan con el catálogo que haya entonces.",
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/apply", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted), (status = 409, description = "No es una simulación completada"),
    )
)]
pub(super) async fn apply(api: Data<Resources>, caller: Caller, task_id: Path<String>) -> ApiResult {
    let id = owned(&api, &caller, &task_id).await?.id;
    Ok(accepted(tasks::apply(&api, id, caller.id()).await?))
}

/// Takes back what an import did: what it created is removed and what it updated gets its values back, unless
/// somebody changed it since.
#[utoipa::path(
    operation_id = "imports_undo", summary = "Revertir una carga",
    description = "Elimina lo que creó y devuelve sus valores a lo que actualizó, salvo lo que alguien haya cambiado después.",
    post, path = "/api/v1/catalog/bulk-upload/{task_id}/undo", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 202, body = Accepted),
        (status = 409, description = "No hay nada que revertir, o la tarea no ha terminado"),
    )
)]
pub(super) async fn undo_import(api: Data<Resources>, caller: Caller, task_id: Path<String>) -> ApiResult {
    let id = owned(&api, &caller, &task_id).await?.id;
    Ok(accepted(tasks::undo_import(&api, id, caller.id()).await?))
}
