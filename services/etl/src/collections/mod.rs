//! Collections: what BigQuery says of campaigns, accounts, managements and payments, and the dashboards over it.
//!
//! `raw_*` tables have the source's rows. [`refresh`] derives `aux_*` and `mart_*` from them, a campaign that something
//! has changed in at a time, all in one transaction which raises the version of the data. A [`question::Question`] is
//! answered from one version by [`answers::answer`]; [`cache`] keeps answers. Every figure is defined in docs/kpis.md.

pub mod answers;
mod arrays;
mod beaten;
pub mod bigquery;
pub mod cache;
mod days;
mod doctor;
mod lanes;
pub mod numbers;
pub mod question;
mod raw;
pub mod redrive;
pub mod refresh;
pub mod refresher;
mod rows;
mod run;
pub mod settings;
pub mod streams;

pub use doctor::doctor;
pub use raw::purge;
pub use refresh::refresh;
pub use run::work;
pub use settings::CollectionsSettings;
pub use streams::STREAMS;
