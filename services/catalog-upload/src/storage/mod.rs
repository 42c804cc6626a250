//! The schema `catalog_upload`, and no other.

pub mod batch;
pub mod claims;
pub mod doctor;
pub mod edits;
pub mod imports;
pub mod inventory;
pub mod ledger;
pub mod migrations;
pub mod plan;
pub mod products;
pub mod reports;
pub mod retention;
pub mod search;
pub mod undo;
