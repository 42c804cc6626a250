//! The commands of the binary `stack`.

pub mod contacts;
pub mod demo;
mod demo_campaign;
mod demo_contacts;
mod demo_report;
mod demo_syncs;
pub mod down;
pub mod env;
pub mod state;
pub mod status;
pub mod tools;
pub mod up;
pub mod upload;
pub mod wiring;
