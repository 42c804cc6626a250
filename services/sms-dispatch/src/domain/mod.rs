//! The rules, with no I/O.

pub mod audience_file;
pub mod callback;
pub mod campaign;
pub mod forecast;
pub mod keywords;
pub mod ladas;
pub mod link;
pub mod lookup;
pub mod message_id;
pub mod message_state;
pub mod money;
pub mod numbering_plan;
pub mod outcome_window;
pub mod outcomes;
pub mod own_hour;
pub mod pace;
pub mod parts;
pub mod phone;
mod prefixes;
pub mod reason;
pub mod report;
pub mod search;
pub mod segment;
pub mod sender;
pub mod set_aside;
pub mod source;
pub mod states;
pub mod suppression;
pub mod template;
pub mod webhooks;
pub mod windows;

#[cfg(test)]
mod phone_tests;

pub use ladas::LadaInfo;
pub use numbering_plan::{NumberingPlan, PlanError};
pub use phone::{Lada, Normalised, Phone, normalise};
pub use reason::Reason;
pub use states::State;
