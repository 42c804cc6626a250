use std::fmt;

/// Why a handler did not work a message off, and so what becomes of the message.
#[derive(Debug)]
pub enum JobError {
    /// Transient: comes back after a backoff, until the policy's attempts are used up.
    Retry(anyhow::Error),
    /// Will never work: goes to the dead letters at once, with the reason.
    Fail(anyhow::Error),
    /// The process is shutting down and the work can go on elsewhere: comes back at once, and the
    /// attempt does not count (where the transport lets us choose).
    Release,
}

impl JobError {
    /// A transient failure.
    pub fn retry(error: impl Into<anyhow::Error>) -> Self {
        Self::Retry(error.into())
    }

    /// A permanent failure.
    pub fn fail(error: impl Into<anyhow::Error>) -> Self {
        Self::Fail(error.into())
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(error) => write!(f, "will be retried: {error:#}"),
            Self::Fail(error) => write!(f, "failed for good: {error:#}"),
            Self::Release => write!(f, "released for another worker"),
        }
    }
}
