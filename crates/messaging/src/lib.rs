//! Durable messages over RabbitMQ and SQS. A service sees four things: a [`Broker`] it publishes to, a
//! [`Consumer`] that feeds its [`Handler`]s, the [`Envelope`] a message travels in, and [`JobError`],
//! with which a handler says what becomes of a message that it could not process.

mod broker;
mod config;
mod consumer;
mod dead_letter;
mod delivery;
mod depths;
mod dispatch;
mod envelope;
mod error;
mod handler;
mod keeper;
mod kill_switch;
mod letters;
mod memory;
pub mod metrics;
mod outgoing;
mod policy;
mod rabbit;
mod sqs;
pub mod trace;
mod transport;

pub use broker::{Broker, DeclareError, Depth};
pub use config::{BrokerConfig, SqsConfig};
pub use consumer::Consumer;
pub use dead_letter::DeadLetter;
pub use depths::DepthSampler;
pub use envelope::Envelope;
pub use error::JobError;
pub use handler::{Context, Handler};
pub use keeper::TopologyKeeper;
pub use letters::Letters;
pub use outgoing::{Destination, Outgoing, PublishError};
pub use policy::{Backoff, Policy};
