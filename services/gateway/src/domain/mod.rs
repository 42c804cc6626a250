//! The rules of identity, without I/O: time and facts come in, decisions go out.

pub mod network;
pub mod password;
pub mod refresh;
pub mod roles;
pub mod scopes;
pub mod signing;
pub mod throttle;
pub mod users;
