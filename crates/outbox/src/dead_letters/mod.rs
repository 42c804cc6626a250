//! Dead letters where a person can work with them: in a table.

mod archive;
mod read;
mod redrive;

pub use archive::Archiver;
pub use read::{DeadLetter, Filter, LetterState, Page, Pages, audit, get, list, open_by_queue};
pub use redrive::{AuditEntry, Reason, Report, Selection, discard, replay};
