//! Vendors that Lote talks to over the internet, as far as it does: their paths, credentials, limits, answers and errors,
//! served on this machine to a test or a demo.

pub mod bigquery;
pub mod bsale;
pub mod messages;
pub mod telnyx;
