//! The HTTP side of a process: server, problems, health, metrics.

mod given;
mod health;
mod observe;
mod problem;
mod server;

pub use given::{IfMatch, in_range};
pub use health::{Health, Importance};
pub use observe::request_id;
pub use problem::{Problem, ProblemBody};
pub use server::{Server, configure, serve};
