//! The gateway: the one door to Lote. It knows who is calling, passes requests on to the services, and
//! shows live what happens.

pub mod config;
pub mod domain;
pub mod events;
pub mod http;
pub mod identity;
pub mod live;
pub mod storage;

mod app;

pub use app::{App, Gateway, SERVICE};
