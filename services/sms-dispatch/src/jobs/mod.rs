//! One file a kind of work.

pub mod import_contacts;
pub mod roll_back_import;
pub mod turn;
