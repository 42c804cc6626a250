//! The rules, without I/O.

pub mod merge;
pub mod money;
pub mod run;
pub mod stream;
pub mod table;
