//! What providers tell us by webhook: whether it is really them, and what they say.

pub mod telnyx;
pub mod twilio;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use super::callback::Callback;
pub use super::report::Report;
use super::{Phone, normalise};

/// The largest body that a webhook has.
pub const MAX_BODY: usize = 64 * 1024;

/// What a webhook says, whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Webhook {
    /// What became of a message of ours.
    Status(Status),
    /// A message to us.
    Inbound(Inbound),
    /// Something else that is no business of ours, by its kind: acknowledged and dropped.
    Other(String),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The same for each delivery of the same event, where the provider numbers them.
    pub event_id: Option<String>,
    /// The message and the attempt, read from what is signed; none where the message was not sent by this service.
    pub callback: Option<Callback>,
    /// Whom the message went to; none where that isn't a number of Mexico.
    pub to: Option<Phone>,
    pub report: Report,
}

/// A message to one of our numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The same however often it is delivered.
    pub provider_id: Uuid,
    /// Who wrote; none where it isn't a number of Mexico.
    pub from: Option<Phone>,
    /// The number that it was sent to.
    pub to: String,
    pub text: String,
    pub at: Option<DateTime<Utc>>,
}

/// Why a webhook is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// There is no signature, or it is another one.
    #[error("the signature is not valid")]
    Signature,
    /// It is signed, but at another time than now.
    #[error("the signature is too old, or from the future")]
    Time,
    /// The sender is who it says it is, but what it says can't be understood.
    #[error("the body is not understood: {0}")]
    Body(String),
}

fn phone(text: &str) -> Option<Phone> {
    normalise(text.as_bytes()).ok().map(|normalised| normalised.phone)
}

#[cfg(test)]
mod tests;
