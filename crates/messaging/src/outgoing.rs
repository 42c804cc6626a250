use std::{fmt, str::FromStr};

use bytes::Bytes;
use contracts::{Queue, Route, Routed};
use uuid::Uuid;

use crate::Envelope;

/// Where a message goes, in a form that a row of the outbox can hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A queue, by its logical name.
    Queue(String),
    /// The exchange of events, under this routing key.
    Event(String),
}

impl From<Route> for Destination {
    fn from(route: Route) -> Self {
        match route {
            Route::Command(queue) => queue.into(),
            Route::Event(key) => Self::Event(key.to_owned()),
        }
    }
}

impl From<&Queue> for Destination {
    fn from(queue: &Queue) -> Self {
        Self::Queue(queue.name.to_owned())
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue:{name}"),
            Self::Event(key) => write!(f, "event:{key}"),
        }
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("queue", name)) => Ok(Self::Queue(name.to_owned())),
            Some(("event", key)) => Ok(Self::Event(key.to_owned())),
            _ => Err(format!("unknown destination {text:?}, expected queue:<name> or event:<key>")),
        }
    }
}

/// A message ready to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Where to.
    pub destination: Destination,
    /// The envelope's id.
    pub id: Uuid,
    /// The envelope's type, for headers and metrics.
    pub kind: String,
    /// The envelope as JSON.
    pub body: Bytes,
}

impl Outgoing {
    /// Puts an enveloped message on its way to where its contract says.
    ///
    /// # Errors
    /// An envelope that has no JSON form.
    pub fn new<M: Routed>(envelope: &Envelope) -> serde_json::Result<Self> {
        Self::to(M::ROUTE.into(), envelope)
    }

    /// The same to `destination`, for a message that has no place of its own.
    ///
    /// # Errors
    /// An envelope that has no JSON form.
    pub fn to(destination: Destination, envelope: &Envelope) -> serde_json::Result<Self> {
        Ok(Self {
            destination,
            id: envelope.id,
            kind: envelope.kind.clone(),
            body: serde_json::to_vec(envelope)?.into(),
        })
    }
}

/// Why a message was not published. The caller (the outbox) keeps it and tries again.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The broker can't be reached, did not confirm in time, or refused.
    #[error("broker unavailable: {0}")]
    Unavailable(String),
    /// No queue takes it: the topology lacks a queue or a binding.
    #[error("no queue takes {0}")]
    Unroutable(Destination),
    /// It can never be sent as it is.
    #[error("{destination} refuses the message: {reason}")]
    Refused {
        /// Where it should have gone.
        destination: Destination,
        /// What the broker said.
        reason: String,
    },
}
