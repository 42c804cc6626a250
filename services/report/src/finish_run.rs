//! The end of a run, with the event that tells of it.

use contracts::report::v1::{ReportFailed, ReportReady};
use jobs::State;
use outbox::Meta;
use sea_orm::sqlx::PgConnection;

use crate::{
    SERVICE,
    domain::state,
    storage::runs::{self, Run},
};

/// Writes the end of a run all of whose files have ended, and its event, in the caller's transaction. Does nothing
/// where some have not. `error` is what the last one said.
pub async fn finish_run(conn: &mut PgConnection, run: &Run, error: Option<&str>) -> anyhow::Result<()> {
    if run.done + run.failed < run.files {
        return Ok(());
    }
    let ended = state::ended(run.failed, run.cancel_requested_at.is_some());
    let run = runs::finish(conn, run.id, ended).await?;
    let count = |number: i32| u32::try_from(number).unwrap_or_default();
    let sum = |number: i64| u64::try_from(number).unwrap_or_default();
    let (run_id, fecha) = (run.id.to_string(), run.fecha.to_string());
    let (tipo, meta) = (run.params.kind.name().to_owned(), Meta::about(run.id));
    if run.state == State::Completed {
        let ready = ReportReady {
            run_id,
            fecha,
            tipo,
            files: count(run.files),
            rows: sum(run.rows),
            bytes: sum(run.bytes),
            version: sum(run.version),
        };
        outbox::publish(conn, SERVICE, &ready, meta).await?;
    } else {
        let failed = ReportFailed {
            run_id,
            fecha,
            tipo,
            files: count(run.files),
            failed: count(run.failed),
            reason: reason(&run, error),
            version: sum(run.version),
        };
        outbox::publish(conn, SERVICE, &failed, meta).await?;
    }
    tracing::info!(run = %run.id, state = ?run.state, files = run.files, failed = run.failed, rows = run.rows, "run ended");
    Ok(())
}

/// Why a run has not all of its files, for a person.
fn reason(run: &Run, error: Option<&str>) -> String {
    let missing = format!("{} de {} archivos no se generaron", run.failed, run.files);
    match (run.cancel_requested_at, error) {
        (Some(_), _) => format!("Cancelado: {missing}"),
        (None, Some(error)) => format!("{missing}: {error}"),
        (None, None) => missing,
    }
}
