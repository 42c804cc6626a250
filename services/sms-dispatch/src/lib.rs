//! Contacts, clean and unique; segments of them; campaigns to them.

pub mod commands;
pub mod config;
pub mod domain;
pub mod import;
mod jobs;
pub mod storage;

/// The service's name, in health, metrics, tables and messages.
pub const SERVICE: &str = "sms-dispatch";
