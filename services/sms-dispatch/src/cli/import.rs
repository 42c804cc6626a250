//! `sms-dispatch import FILE`: the import of a file on this machine, with a progress bar. Run again, it goes on where it
//! was.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use chassis::{
    config::DatabaseSettings,
    db::{self, Database},
};
use indicatif::{HumanCount, ProgressBar};
use jobs::{NewJob, Progress, State};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::drive::{bar, drive};
use crate::{
    config::ImportSettings,
    domain::source::{Kind, Mapping},
    import::{
        files::InPlace,
        source::{Source, fingerprint, name},
        watch::Show,
    },
    jobs::import_contacts::{ImportContacts, LOCAL_KIND},
    storage::{
        audit,
        imports::{self, Import, NewImport, Options},
    },
};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ImportRequest {
    pub file: PathBuf,
    pub consent: Option<String>,
    pub dry_run: bool,
    pub limit: Option<u64>,
    pub batch_size: Option<i64>,
    pub workers: Option<usize>,
    pub mapping: Mapping,
    /// Who asks, for the audit.
    pub actor: String,
}

/// Imports the file, or goes on with its unfinished import. Returns the import as it ended.
///
/// # Errors
/// A file that can't be read, an import that failed (with its reason), the database, a request to stop.
pub async fn run(
    database: &DatabaseSettings,
    settings: ImportSettings,
    request: &ImportRequest,
    shutdown: &CancellationToken,
) -> anyhow::Result<Import> {
    let settings = ImportSettings { workers: request.workers.unwrap_or(settings.workers), ..settings };
    let database = db::connect(database, "sms-dispatch import", shutdown).await?;
    let id = ensure_job(&database, &settings, request).await?;
    let bar = bar();
    let work = ImportContacts {
        pool: database.pool.clone(),
        settings: Arc::new(settings.clone()),
        show: show(bar.clone()),
        files: Box::new(InPlace),
    };
    let job = drive(&database.pool, settings.lease, id, &work, &bar, shutdown).await?;
    match job.state {
        State::Completed => imports::get(&database.pool, id).await?.context("the import's row is gone"),
        state => bail!("the import {}: {}", state.name(), job.error.unwrap_or_default()),
    }
}

/// The job to work off: the file's unfinished one, or a new one.
async fn ensure_job(
    database: &Database,
    settings: &ImportSettings,
    request: &ImportRequest,
) -> anyhow::Result<Uuid> {
    let path = std::path::absolute(&request.file)?;
    let options = Options {
        dry_run: request.dry_run,
        limit: request.limit,
        batch_size: Some(request.batch_size.unwrap_or(settings.batch_rows)),
        mapping: request.mapping.clone(),
    };
    let (mark, kind) = tokio::task::spawn_blocking({
        let (path, options) = (path.clone(), options.clone());
        move || look(&path, &options)
    })
    .await??;
    if let Some(id) = imports::unfinished(&database.pool, LOCAL_KIND, &mark, &options).await? {
        let begun = imports::get(&database.pool, id).await?.context("an import's row is gone")?;
        if let Some(basis) = &request.consent {
            ensure!(
                begun.consent == *basis,
                "this file's import {id} goes on with the consent basis {:?}, not {basis:?}: run it without one, \
                 or cancel it and begin again",
                begun.consent
            );
        }
        // The file may have moved since.
        imports::set_path(&database.pool, id, path.to_str()).await?;
        eprintln!("goes on with import {id}");
        return Ok(id);
    }
    let id = Uuid::now_v7();
    let new = NewJob {
        id,
        kind: LOCAL_KIND,
        params: serde_json::Value::Null,
        user: Some(request.actor.clone()),
        idempotency_key: None,
        request_hash: None,
        max_attempts: settings.max_attempts,
    };
    let import = NewImport {
        id,
        source: &name(&path),
        kind,
        object_key: None,
        path: path.to_str(),
        fingerprint: Some(&mark),
        consent: request.consent.as_deref().unwrap_or("unknown"),
        options: &options,
        imported_by: &request.actor,
    };
    let mut transaction = database.pool.begin().await?;
    jobs::create(&mut transaction, new).await?;
    imports::insert(&mut transaction, &import).await?;
    let details = json!({"source": import.source, "consent": import.consent, "options": options});
    audit::record(&mut transaction, &request.actor, "import_started", Some(&id.to_string()), &details)
        .await?;
    transaction.commit().await?;
    Ok(id)
}

fn look(path: &Path, options: &Options) -> anyhow::Result<(String, Kind)> {
    let source = Source::open(path, options.limit, &options.mapping)?;
    Ok((fingerprint(path)?, source.kind()))
}

fn show(bar: ProgressBar) -> Box<Show> {
    Box::new(move |progress: &Progress, phase: &str| {
        if let Some(total) = progress.total {
            bar.set_length(total.unsigned_abs());
        }
        if bar.position() == 0 && progress.processed > 0 {
            // What earlier attempts did says nothing about how fast this one is.
            bar.reset_eta();
        }
        bar.set_position(progress.processed.unsigned_abs());
        bar.set_message(format!("{} rejected, {phase}", HumanCount(progress.failed.unsigned_abs())));
    })
}
