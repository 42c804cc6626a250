//! Contacts from a file into the table: read, normalised, copied, merged, indexed, checked.

pub mod clean;
pub mod command;
pub mod csv;
pub mod encode;
pub mod index;
pub mod load;
pub mod merge;
pub mod raw;
pub mod settle;
pub mod source;
pub mod sqlite;
pub mod watch;
