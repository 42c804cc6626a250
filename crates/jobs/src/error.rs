use sea_orm::sqlx;

/// Why a job's row was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else holds the job now, or it has ended: stop working on it. Nothing was written.
    #[error("the lease on the job is lost")]
    LeaseLost,
    /// The idempotency key was used for another request.
    #[error("idempotency key {0:?} was used for another request")]
    KeyReused(String),
    /// The database refused, or can't be reached. The caller's transaction is void.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A nudge could not be written.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
}
