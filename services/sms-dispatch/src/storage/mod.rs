//! The schema `sms`, and no other.

pub mod audit;
pub mod batches;
pub mod consent_withdrawals;
pub mod contacts;
pub mod doctor;
pub mod imports;
pub mod index_builds;
pub mod indexes;
pub mod lookups;
pub mod merge;
pub mod migrations;
pub mod missing_ladas;
pub mod numbering_plan;
pub mod preview;
pub mod quality;
pub mod rollback;
pub mod search;
pub mod segment_sql;
pub mod segments;
pub mod statistics;
pub mod stats;
pub mod suppressions;
pub mod validations;
pub mod views;
