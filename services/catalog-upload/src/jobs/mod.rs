//! One file a kind of job: its name, its queue and its work. How they are all run is decided here.

pub mod annotate_import;
pub mod process_import;
pub mod undo_import;

use std::time::Duration;

use ::jobs::{JobKind, JobRun};
use contracts::Queue;
use messaging::{Backoff, JobError};
use sea_orm::sqlx::{PgPool, PgTransaction};

use crate::{SERVICE, config::ImportSettings, storage::batch};

/// A kind of job of this service. One that fails without progress comes back after 1 s, 5 s, 25 s, 2 min, and then every
/// 5 min.
fn kind(name: &'static str, queue: &'static Queue, settings: &ImportSettings) -> JobKind {
    JobKind {
        concurrency: settings.concurrency,
        deadline: settings.deadline,
        lease: settings.lease,
        max_attempts: settings.max_attempts,
        backoff: Backoff { steps: [1, 5, 25, 120, 300].map(Duration::from_secs).to_vec() },
        ..JobKind::new(SERVICE, name, queue)
    }
}

/// A transaction that is the only one that imports into the catalog, as [`batch::begin`] has it. Waits as long as another
/// one takes, which may write a whole file: that is no failure of this job, and costs it no attempt.
async fn begin_alone(pool: &PgPool, run: &JobRun) -> Result<PgTransaction<'static>, JobError> {
    loop {
        let mut transaction = pool.begin().await.map_err(JobError::retry)?;
        match batch::begin(&mut transaction).await {
            Ok(()) => return Ok(transaction),
            Err(error) if batch::is_lock_timeout(&error) => {
                transaction.rollback().await.map_err(JobError::retry)?;
                run.proceed()?;
            }
            Err(error) => return Err(JobError::retry(error)),
        }
    }
}
