//! `sms-dispatch contacts rollback ID`: takes out what an import brought in.

use std::sync::Arc;

use anyhow::bail;
use chassis::{config::DatabaseSettings, db};
use jobs::{NewJob, State};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::drive::{bar, drive};
use crate::{
    config::ImportSettings,
    jobs::roll_back_import::{LOCAL_KIND, Params, RollBackImports},
};

/// Rolls the import back, for `actor`.
///
/// # Errors
/// An import that can't be rolled back (with the reason), the database, a request to stop.
pub async fn run(
    database: &DatabaseSettings,
    settings: ImportSettings,
    import_id: Uuid,
    actor: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let pool = db::connect(database, "sms-dispatch rollback", shutdown).await?.pool;
    let id = Uuid::now_v7();
    let new = NewJob {
        id,
        kind: LOCAL_KIND,
        params: serde_json::to_value(Params { import_id })?,
        user: Some(actor.to_owned()),
        idempotency_key: None,
        request_hash: None,
        max_attempts: settings.max_attempts,
    };
    let mut transaction = pool.begin().await?;
    jobs::create(&mut transaction, new).await?;
    transaction.commit().await?;
    let work = RollBackImports { pool: pool.clone(), settings: Arc::new(settings.clone()) };
    let job = drive(&pool, settings.lease, id, &work, &bar(), shutdown).await?;
    if job.state == State::Completed {
        return Ok(());
    }
    bail!("the rollback {}: {}", job.state.name(), job.error.unwrap_or_default())
}
