//! The rules of a catalog, with no input or output: what a row must hold, what becomes of it, and the
//! sums that must hold afterwards.

mod aliases;
pub mod claims;
pub mod classify;
mod code;
pub mod column;
pub mod import_result;
pub mod numbers;
pub mod row;
pub mod rules;
pub mod summary;
pub mod undo;
pub mod warnings;

#[cfg(test)]
pub(crate) mod classify_tests;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod warnings_tests;

pub use claims::{Accepted, Claims, Key};
pub use classify::{Decision, ExistingProduct, ImportContext, Outcome, classify};
pub use column::{Column, HeaderName};
pub use import_result::ImportResult;
pub use row::{NOT_COMPUTED, ProductRow, RawCell, RawRow, RowError, Surplus, trim};
pub use rules::{Checked, is_error, validate, validate_requiring};
pub use summary::Summary;
pub use warnings::RowWarning;
