//! What the command line does by itself, without a queue.

pub mod backup;
mod drive;
pub mod import;
pub mod numbering_plan;
pub mod restore;
pub mod rollback;
