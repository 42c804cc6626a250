//! One file a kind of work.

pub mod import_contacts;
pub mod queue;
pub mod roll_back_import;
pub mod spool;
pub mod turn;
pub mod validate_contacts;
