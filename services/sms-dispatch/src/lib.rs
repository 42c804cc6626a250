//! Contacts, clean and unique; segments of them; campaigns to them.

pub mod domain;

/// The service's name, in health, metrics, tables and messages.
pub const SERVICE: &str = "sms-dispatch";
