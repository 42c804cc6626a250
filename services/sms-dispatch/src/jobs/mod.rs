//! One file a kind of work.

pub mod import_contacts;
