//! Annotated workbooks: made when somebody asks for one.

use uuid::Uuid;

use crate::{Resources, jobs::annotate_import, storage::reports};

/// Starts the making of an import's workbook. Of two who ask at once the second finds the first's row, and its own job is
/// rolled back.
///
/// # Errors
/// The database.
pub async fn begin(resources: &Resources, import: Uuid, user: &str) -> anyhow::Result<()> {
    let kind = annotate_import::kind(&resources.settings);
    let job = kind.job(user);
    let id = job.id;
    let mut transaction = resources.database.pool.begin().await?;
    kind.create(&mut transaction, job, chassis::http::request_id()).await?;
    if reports::create(&mut transaction, import, id).await? {
        transaction.commit().await?;
    }
    Ok(())
}
