//! The service's parts against the real servers.

mod doctor;
mod exports;
mod ingest;
mod procedures;
mod retention;
mod schedules;
mod snapshot;
mod waiting;
mod world;
