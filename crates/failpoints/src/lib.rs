//! Named places where a test can kill a process: every commit, publish and ack boundary has one.
//!
//! A process takes its points from the environment (`FAILPOINTS=relay-published=1*return`), in builds
//! with the feature `enabled`; elsewhere a point compiles to nothing. Chaos tests walk [`Point::ALL`],
//! so a new point is covered from the day it is added.

/// A place to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// A file is in S3, its row is not committed.
    UploadStored,
    /// A request's row is committed, the client has no answer yet.
    UploadCommitted,
    /// The relay has published a batch, its rows are not deleted yet.
    RelayPublished,
    /// The relay's deletion is committed.
    RelayDeleted,
    /// A job's lease is taken and committed, work has not begun.
    JobClaimed,
    /// A batch of rows is written, its checkpoint is not committed.
    BatchWritten,
    /// A batch and its checkpoint are committed.
    BatchCommitted,
    /// A job's end is written with its events, not committed.
    JobFinishing,
    /// A job's end is committed, its message is not acknowledged.
    JobFinished,
    /// The handler has returned, its message is not settled.
    HandlerReturned,
    /// The retry is published to its tier, the old delivery is not acknowledged.
    RetryPublished,
    /// The letter is published to the dead-letter queue, the old delivery is not acknowledged.
    DeadPublished,
    /// The letter is in the archive, its message is not acknowledged.
    LetterArchived,
    /// The sweeper has written nudges, not committed.
    SweepWritten,
}

impl Point {
    /// Every point there is.
    pub const ALL: &[Self] = &[
        Self::UploadStored,
        Self::UploadCommitted,
        Self::RelayPublished,
        Self::RelayDeleted,
        Self::JobClaimed,
        Self::BatchWritten,
        Self::BatchCommitted,
        Self::JobFinishing,
        Self::JobFinished,
        Self::HandlerReturned,
        Self::RetryPublished,
        Self::DeadPublished,
        Self::LetterArchived,
        Self::SweepWritten,
    ];

    /// The name in `FAILPOINTS`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UploadStored => "upload-stored",
            Self::UploadCommitted => "upload-committed",
            Self::RelayPublished => "relay-published",
            Self::RelayDeleted => "relay-deleted",
            Self::JobClaimed => "job-claimed",
            Self::BatchWritten => "batch-written",
            Self::BatchCommitted => "batch-committed",
            Self::JobFinishing => "job-finishing",
            Self::JobFinished => "job-finished",
            Self::HandlerReturned => "handler-returned",
            Self::RetryPublished => "retry-published",
            Self::DeadPublished => "dead-published",
            Self::LetterArchived => "letter-archived",
            Self::SweepWritten => "sweep-written",
        }
    }
}

/// Arms the points named in `FAILPOINTS`. Call once, first thing in `main`, and keep the guard.
pub fn arm() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Dies here, as by SIGKILL, if a test asked for it: no destructor runs, nothing is flushed.
#[cfg_attr(not(feature = "enabled"), expect(unused_variables, reason = "the macro is empty then"))]
pub fn hit(point: Point) {
    fail::fail_point!(point.name(), |_| {
        eprintln!("failpoint {} reached: aborting", point.name());
        std::process::abort()
    });
}
