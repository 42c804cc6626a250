//! Supplier catalogs: workbooks in, products out, every row accounted for.

pub mod domain;
pub mod files;
