//! What the gateway does with messages.

pub mod show_event;
