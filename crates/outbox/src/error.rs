use sea_orm::sqlx;

/// Why a message was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no JSON form.
    #[error("the message has no JSON form: {0}")]
    Encode(#[from] serde_json::Error),
    /// The database refused, or can't be reached. The caller's transaction is void.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
}
