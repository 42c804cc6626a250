//! Tasks: imports, dry runs and undos, and what becomes of them after they were accepted. Each in one transaction.

use ::jobs::{Creation, JobKind, NewJob, State};
use chassis::{Problem, db::Orm};
use sea_orm::sqlx::{PgConnection, PgTransaction};
use uuid::Uuid;

use crate::{
    Resources,
    jobs::{process_import, undo_import},
    status::Status,
    storage::{
        imports::{self, Import, Kind, Options, Source},
        reports, undo,
    },
};

/// There is no such task, or it is not the caller's to see.
pub fn not_found(task_id: &str) -> Problem {
    Problem::not_found(format!("Tarea {task_id} no encontrada"))
}

/// Files and ledgers are kept for a time.
///
/// # Errors
/// 409 once they are deleted.
pub fn unpurged(import: &Import) -> Result<(), Problem> {
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
pub async fn hold_base(conn: &mut PgConnection, base: Uuid) -> Result<(), Problem> {
    match imports::lock(conn, base).await? {
        Some(base) => unpurged(&base),
        None => Err(not_found(&base.to_string())),
    }
}

/// Holds all that a task of these options rests on: it may be past its days by now, and stays from here on, since live
/// tasks keep it.
async fn hold_bases(conn: &mut PgConnection, options: &Options) -> Result<(), Problem> {
    for base in [options.applies, options.corrects, options.undoes].into_iter().flatten() {
        hold_base(conn, base).await?;
    }
    Ok(())
}

/// A task of an import's kind that begins now, in the caller's transaction.
///
/// # Errors
/// 409 for an `Idempotency-Key` of another request; the database.
pub async fn begin(
    conn: &mut PgConnection,
    api: &Resources,
    job: NewJob<'_>,
    source: &Source,
    options: &Options,
) -> Result<Creation, Problem> {
    let user = job.user.clone().unwrap_or_default();
    let created = job_kind(api, options).create(&mut *conn, job, chassis::http::request_id()).await?;
    if let Creation::Created(job) = &created {
        imports::create(conn, job.id, source, options, &user).await?;
    }
    Ok(created)
}

/// What does such a task.
pub fn job_kind(api: &Resources, options: &Options) -> JobKind {
    match options.kind {
        Kind::Undo => undo_import::kind(&api.settings),
        Kind::Import | Kind::DryRun => process_import::kind(&api.settings),
    }
}

/// A task that stays as it is until the transaction ends.
async fn hold(api: &Resources, id: Uuid) -> Result<(PgTransaction<'static>, Import), Problem> {
    let mut transaction = api.database.pool.begin().await?;
    let import = imports::lock(&mut transaction, id).await?;
    let import = import.ok_or_else(|| not_found(&id.to_string()))?;
    Ok((transaction, import))
}

/// A task, and what is to be said of it.
pub type Answer = (&'static str, Import);

/// Ends a task that waits or runs, at its next batch.
///
/// # Errors
/// 409 where it has ended; the database.
pub async fn cancel(api: &Resources, import: Import) -> Result<Answer, Problem> {
    let mut transaction = api.database.pool.begin().await?;
    let job = ::jobs::request_cancel(&mut transaction, import.id).await?;
    let job = job.ok_or_else(|| not_found(&import.id.to_string()))?;
    if job.state.is_final() {
        let detail = format!("La tarea {} ya terminó; no se puede cancelar", import.id);
        return Err(Problem::conflict("task_finished", detail));
    }
    transaction.commit().await?;
    Ok(("Se cancelará la tarea", import))
}

/// Lets a failed or cancelled task go on after the last row whose outcome is known; a file that was refused whole is
/// judged from its beginning.
///
/// # Errors
/// 409 where it did not fail, was undone, or its file is deleted; the database.
pub async fn retry(api: &Resources, id: Uuid) -> Result<Answer, Problem> {
    let (mut transaction, import) = hold(api, id).await?;
    unpurged(&import)?;
    if imports::undoing(&Orm::on(&mut transaction), id).await?.is_some() {
        return Err(Problem::conflict("undone", "La carga fue revertida; vuelva a subir el archivo"));
    }
    let Some(job) = ::jobs::reopen(&mut transaction, id).await? else {
        let detail = "Solo se puede reintentar una tarea que falló o fue cancelada";
        return Err(Problem::conflict("not_failed", detail));
    };
    // What refused the file may be gone: another product's code, a disk that was full.
    if process_import::has_refused(&job, &import.options).map_err(Problem::internal)? {
        ::jobs::start_over(&mut transaction, id).await?;
    }
    hold_bases(&mut transaction, &import.options).await?;
    // What it says of the rows is no longer all.
    reports::forget_of(&mut transaction, id).await?;
    imports::go_on(&mut transaction, id).await?;
    let import = imports::get(&Orm::on(&mut transaction), id).await?;
    let import = import.ok_or_else(|| not_found(&id.to_string()))?;
    transaction.commit().await?;
    api.statuses.put(import.version, &Status::of(&import)).await;
    Ok(("Se reintentará la tarea", import))
}

/// Carries a dry run out, in a task of its own. The same task for whoever asks again.
///
/// # Errors
/// 409 where it is not a completed dry run, or its file or what it corrects is deleted; the database.
pub async fn apply(api: &Resources, id: Uuid, user: &str) -> Result<Answer, Problem> {
    let (mut transaction, plan) = hold(api, id).await?;
    if plan.options.kind != Kind::DryRun || plan.state != State::Completed {
        let detail = "Solo se puede aplicar una simulación (dry_run=true) que se completó";
        return Err(Problem::conflict("not_a_dry_run", detail));
    }
    if let Some(first) = imports::applying(&Orm::on(&mut transaction), id).await? {
        return Ok(("La simulación ya se aplicó", first));
    }
    unpurged(&plan)?;
    let options = Options { kind: Kind::Import, applies: Some(id), ..plan.options.clone() };
    let import = follow_up(&mut transaction, api, user, &plan.source, &options).await?;
    transaction.commit().await?;
    Ok(("La simulación se aplicará", import))
}

/// Takes back what an import did, in a task of its own. The same task for whoever asks again.
///
/// # Errors
/// 409 where there is nothing to take back (neither a change nor a word for what an older import did), the import has not ended, or its ledger is deleted; the database.
pub async fn undo_import(api: &Resources, id: Uuid, user: &str) -> Result<Answer, Problem> {
    let (mut transaction, import) = hold(api, id).await?;
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
    if let Some(first) = imports::undoing(&Orm::on(&mut transaction), id).await? {
        return Ok(("La carga ya se revierte", first));
    }
    if !import.has_ended() {
        let detail = "La carga no ha terminado; cancélela o espere antes de revertirla";
        return Err(Problem::conflict("not_finished", detail));
    }
    unpurged(&import)?;
    if undo::count(&mut *transaction, id).await? == 0 && !undo::confirms(&mut *transaction, id).await? {
        let detail = "La carga no creó ni actualizó productos; no hay qué revertir";
        return Err(Problem::conflict("nothing_to_undo", detail));
    }
    let options =
        Options { kind: Kind::Undo, undoes: Some(id), applies: None, corrects: None, ..import.options };
    let import = follow_up(&mut transaction, api, user, &import.source, &options).await?;
    transaction.commit().await?;
    Ok(("La carga se revertirá", import))
}

/// A task about another task's file, with all that it rests on held.
async fn follow_up(
    conn: &mut PgConnection,
    api: &Resources,
    user: &str,
    source: &Source,
    options: &Options,
) -> Result<Import, Problem> {
    hold_bases(conn, options).await?;
    let job = job_kind(api, options).job(user);
    let id = job.id;
    begin(conn, api, job, source, options).await?;
    imports::get(&Orm::on(conn), id)
        .await?
        .ok_or_else(|| Problem::internal(anyhow::anyhow!("the task {id} is gone")))
}
