//! Streams against real databases, and a Bsale that speaks its own protocol.

mod batches;
mod events;
mod failures;
mod fencing;
mod http;
mod money;
mod pace;
mod retention;
mod sales;
mod schedules;
mod sdk;
mod watermarks;
mod wholeness;
mod world;
