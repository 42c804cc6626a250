//! The schema `sms`, and no other.

pub mod audit;
pub mod batches;
pub mod doctor;
pub mod imports;
pub mod indexes;
pub mod merge;
pub mod migrations;
pub mod numbering_plan;
pub mod quality;
pub mod rollback;
pub mod suppressions;
pub mod views;
