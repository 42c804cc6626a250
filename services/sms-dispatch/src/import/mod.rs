//! Contacts from a file into the table: read, normalised, copied, merged, indexed, checked.

pub mod audience_list;
pub mod clean;
pub mod csv;
pub mod dry_run;
pub mod encode;
pub mod files;
pub mod load;
pub mod merge;
mod phone_set;
pub mod quality;
pub mod raw;
pub mod sample;
pub mod settle;
pub mod side_tables;
pub mod source;
pub mod sqlite;
pub mod suppression_list;
pub mod watch;
