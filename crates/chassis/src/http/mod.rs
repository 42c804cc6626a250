//! The HTTP side of a process: server, problems, health, metrics.

mod health;
mod observe;
mod problem;
mod server;

pub use health::{Health, Importance};
pub use observe::request_id;
pub use problem::{Problem, ProblemBody};
pub use server::{Server, configure, serve};
