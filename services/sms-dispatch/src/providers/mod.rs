//! Carriers' APIs on the internet.

pub mod messaging;
pub mod telnyx;
