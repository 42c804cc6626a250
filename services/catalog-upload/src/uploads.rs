//! Uploads become imports.

use chassis::{
    Problem,
    db::Orm,
    idempotency::{IdempotencyKey, request_hash},
    lock,
};
use jobs::{Creation, NewJob};
use sea_orm::sqlx::{PgConnection, PgTransaction};
use uuid::Uuid;

use crate::{
    Resources,
    storage::imports::{self, Import, Kind, Options, Source},
    tasks,
};

/// What an upload is.
pub enum Acceptance {
    /// A new import, once the transaction is committed.
    New(PgTransaction<'static>),
    /// One that is there already.
    Known(Box<Import>),
}

/// Job, import and nudge: one transaction, which the caller commits. Or the import that is there already: under the same
/// `Idempotency-Key`, or of the same content, supplier and options and not ended yet.
///
/// # Errors
/// 409 for a key of another request, and for a correction whose base is deleted; the database.
pub async fn accept(
    api: &Resources,
    id: Uuid,
    user: &str,
    source: &Source,
    options: &Options,
    key: IdempotencyKey,
) -> Result<Acceptance, Problem> {
    let flags = [
        u8::from(options.replace_duplicates),
        u8::from(options.all_or_nothing),
        u8::from(options.kind == Kind::DryRun),
    ];
    let corrects = options.corrects.unwrap_or_default();
    let mut parts: Vec<&[u8]> =
        vec![source.proveedor_id.as_bytes(), &flags, corrects.as_bytes(), source.sha256.as_bytes()];
    // Keys from before sheets could be chosen stay as they are.
    parts.extend(options.sheet.as_deref().map(str::as_bytes));
    let hash = request_hash(&parts);
    let mut transaction = api.database.pool.begin().await?;
    // A key answers what it first answered, whatever runs by now.
    if let Some(key) = &key.0 {
        lock::hold(&mut transaction, &format!("idempotency {user} {key}")).await?;
        let job = jobs::keyed(&mut transaction, user, key, Some(&hash)).await?;
        if let Some(job) = job {
            return known(&mut transaction, job.id).await;
        }
    }
    if let Some(first) = options.corrects {
        tasks::hold_base(&mut transaction, first).await?;
    }
    // Of two uploads at once the second finds the first.
    let content = format!("content {} {}", source.sha256, source.proveedor_id);
    lock::hold(&mut transaction, &content).await?;
    if let Some(first) = imports::unfinished(&mut transaction, source, options).await? {
        if let Some(key) = &key.0 {
            jobs::join(&mut transaction, user, key, Some(&hash), first.id).await?;
            transaction.commit().await?;
        }
        return Ok(Acceptance::Known(Box::new(first)));
    }
    let job = NewJob {
        id,
        idempotency_key: key.0,
        request_hash: Some(hash),
        ..tasks::job_kind(api, options).job(user)
    };
    match tasks::begin(&mut transaction, api, job, source, options).await? {
        Creation::Created(_) => Ok(Acceptance::New(transaction)),
        Creation::Existing(job) => known(&mut transaction, job.id).await,
    }
}

/// The import of a job that a key has created or joined; another kind of job was another request.
async fn known(conn: &mut PgConnection, job: Uuid) -> Result<Acceptance, Problem> {
    let first = imports::get(&Orm::on(conn), job).await?;
    Ok(Acceptance::Known(Box::new(first.ok_or_else(Problem::key_reused)?)))
}
