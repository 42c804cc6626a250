//! Carriers' APIs on the internet.

pub mod log_messages;
pub mod messaging;
pub mod telnyx;
pub mod telnyx_messages;
pub mod twilio_messages;
