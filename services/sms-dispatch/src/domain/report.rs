//! What a provider says of one message, in a webhook or in its records.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::message_state::Observed;
use super::money::Money;
use super::outcomes::Verdict;

/// What a provider says of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub provider_id: Uuid,
    pub observed: Observed,
    /// Why it didn't arrive; none where it did, or may yet.
    pub verdict: Option<Verdict>,
    /// None where the provider doesn't know yet.
    pub parts: Option<u16>,
    /// None where the provider doesn't know yet.
    pub cost: Option<Money>,
    /// When it happened, by the provider's clock.
    pub at: Option<DateTime<Utc>>,
}

/// Telnyx's id, or Twilio's `SM` (`MM`) and 32 hexadecimal digits, as one kind of id.
pub fn provider_id(text: &str) -> Option<Uuid> {
    let digits = match text.get(..2) {
        Some("SM" | "MM") => text.get(2..)?,
        _ => text,
    };
    Uuid::try_parse(digits).ok()
}
