//! What the gateway does with events: one file a handler.

pub mod payloads;
pub mod show_event;
