//! The rules, with no I/O.

pub mod phone;
mod prefixes;
pub mod reason;

#[cfg(test)]
mod phone_tests;

pub use phone::{Lada, Normalised, Phone, normalise};
pub use reason::Reason;
