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
    /// How an import of contacts writes is decided and committed; for a load into an empty table its indexes are gone.
    ImportBegun,
    /// What the source holds beside its contacts is committed.
    SideTablesKept,
    /// One index of the contacts is built.
    IndexBuilt,
    /// Who opted out is marked, and the rows that merged are cleared away.
    StagedCleared,
    /// The views tell the new counts, the import has not ended.
    ViewsRefreshed,
    /// A slice is a job's and committed, its nudge is still in the outbox.
    SliceFed,
    /// A provider's report is committed, the provider has no answer yet.
    ReportKept,
    /// Providers' reports are applied, not committed.
    ReportsApplied,
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
        Self::ImportBegun,
        Self::SideTablesKept,
        Self::IndexBuilt,
        Self::StagedCleared,
        Self::ViewsRefreshed,
        Self::SliceFed,
        Self::ReportKept,
        Self::ReportsApplied,
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
            Self::ImportBegun => "import-begun",
            Self::SideTablesKept => "side-tables-kept",
            Self::IndexBuilt => "index-built",
            Self::StagedCleared => "staged-cleared",
            Self::ViewsRefreshed => "views-refreshed",
            Self::SliceFed => "slice-fed",
            Self::ReportKept => "report-kept",
            Self::ReportsApplied => "reports-applied",
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
