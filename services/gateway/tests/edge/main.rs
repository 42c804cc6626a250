//! The gateway as its clients and the services behind it see it: real servers, a real gateway, and an
//! upstream of the test's own.

mod docs;
mod events;
mod harness;
mod limits;
mod proxy;
mod stream;
mod uploads;
mod upstream;
