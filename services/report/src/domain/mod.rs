//! The rules, without I/O.

pub mod date;
pub mod names;
pub mod params;
pub mod state;
