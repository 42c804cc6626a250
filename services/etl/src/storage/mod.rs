//! The schema `etl`, and no other.

pub mod default_schedules;
pub mod doctor;
pub mod migrations;
pub mod runs;
