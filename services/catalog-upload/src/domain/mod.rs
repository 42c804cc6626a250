//! The rules of a catalog, with no input or output: what a row must hold, what becomes of it, and the
//! sums that must hold afterwards.

pub mod classify;
pub mod column;
pub mod numbers;
pub mod row;
pub mod rules;
pub mod summary;

#[cfg(test)]
mod classify_tests;
#[cfg(test)]
mod rules_tests;

pub use classify::{Decision, ExistingProduct, ImportContext, Outcome, classify};
pub use column::Column;
pub use row::{ProductRow, RawCell, RawRow, RowError};
pub use rules::validate;
pub use summary::Summary;
