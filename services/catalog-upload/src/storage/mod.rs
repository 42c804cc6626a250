//! The schema `catalog_upload`, and no other.

mod copy;
pub mod imports;
pub mod migrations;
pub mod products;
