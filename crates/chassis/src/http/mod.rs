//! The HTTP side of a process: server, problems, health, metrics.

mod attachment;
mod cross_site;
mod document;
mod extractors;
mod health;
mod input;
pub mod job;
mod observe;
pub mod page;
mod pieces;
mod problem;
mod routes;
mod server;
mod stuck;
pub mod upload;

pub use attachment::{CsvQuery, attachment, csv_pages, download, send_object};
pub use cross_site::CrossSite;
pub use document::Document;
pub(crate) use extractors::optional_header;
pub use extractors::{IfMatch, Versioned, etag, in_range};
pub use health::{Health, Importance};
pub use input::{Form, Json, OptionalJson, Query, json_parameter, nearest_name, repeated_parameters};
pub use observe::request_id;
pub use pieces::in_pieces;
pub use problem::{ApiResult, Problem, ProblemBody};
pub use routes::{Routes, get_only, method_not_allowed};
pub use server::{Server, serve};
