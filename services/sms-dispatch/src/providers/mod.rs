//! Carriers' APIs on the internet.

pub mod telnyx;
