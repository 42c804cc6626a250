//! Subcommands that work on contacts themselves, without a queue.

pub mod backup;
mod drive;
pub mod import;
pub mod numbering_plan;
pub mod restore;
pub mod rollback;
