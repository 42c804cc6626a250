//! The schema `etl`, and no other.

pub mod default_schedules;
pub mod doctor;
pub mod mart_version;
pub mod migrations;
pub mod raw_quarantine;
pub mod raw_streams;
pub mod runs;
pub mod seeded_schedules;
