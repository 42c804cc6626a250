use sea_orm::sqlx;
use uuid::Uuid;

/// Why a message was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no JSON form.
    #[error("the message has no JSON form: {0}")]
    Encode(#[from] serde_json::Error),
    /// It can't be kept as a row: nothing was written, and the caller's transaction goes on.
    #[error("message {id} can't be kept in the outbox: {reason}")]
    Unstorable {
        /// The message's id.
        id: Uuid,
        /// What it is about it.
        reason: String,
    },
    /// The database refused, or can't be reached. The caller's transaction is void.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}
