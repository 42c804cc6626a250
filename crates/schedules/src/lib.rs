//! Scheduled work: a cron expression in a time zone, with what to do as JSON, as a row of a service's own
//! schema. [`Scheduler`] claims rows that are due with `SKIP LOCKED`, so that any number of processes may run it; what
//! a service begins commits together with the row's next time.

pub mod http;
mod migration;
mod row;
mod scheduler;
mod timetable;

pub use migration::{WAITING_UP, migrations};
pub use row::{Schedule, get, list, put};
pub use scheduler::{Begin, Begun, Scheduler};
pub use timetable::{BadSchedule, Missed, Timetable};
