//! Annotated workbooks: made when somebody asks for one.

use uuid::Uuid;

use crate::{
    Resources,
    jobs::annotate_import,
    storage::{imports, reports},
};

/// Starts the making of an import's workbook. Of two who ask at once the second finds the first's row, and its own job is
/// rolled back. An import that goes on by now, or whose file is gone, gets none: whoever asks again hears why.
///
/// # Errors
/// The database.
pub async fn begin(resources: &Resources, import: Uuid, user: &str) -> anyhow::Result<()> {
    let kind = annotate_import::kind(&resources.settings);
    let job = kind.job(user);
    let id = job.id;
    let mut transaction = resources.database.pool.begin().await?;
    // A retry forgets the report of its import: from here on, it waits until this one has a row to forget.
    let import = match imports::lock(&mut transaction, import).await? {
        Some(held) if held.has_ended() && held.purged_at.is_none() => held.id,
        _ => return Ok(()),
    };
    kind.create(&mut transaction, job, chassis::http::request_id()).await?;
    if reports::create(&mut transaction, import, id).await? {
        transaction.commit().await?;
    }
    Ok(())
}
