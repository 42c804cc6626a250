//! The schema `report`, and no other.

pub mod campaigns;
pub mod days;
pub mod doctor;
pub mod files;
pub mod loads;
pub mod messages;
pub mod migrations;
pub mod retention;
pub mod runs;
pub mod snapshot;
