//! What services tell the people who are watching, through a Redis stream: progress and domain
//! events. Disposable: the truth is in PostgreSQL, and a reader that missed entries asks there.

use serde::{Deserialize, Serialize};

/// The Redis stream, behind the configured key prefix.
pub const STREAM: &str = "live";

/// The stream field that holds a [`LiveEvent`] as JSON.
pub const FIELD: &str = "event";

/// Entries kept in the stream (approximately): what `Last-Event-ID` can go back over.
pub const KEEP: usize = 10_000;

/// The key that is there while somebody watches the stream, behind the configured prefix. What has no other use than to be
/// watched need not be found out without it.
pub const WATCHED: &str = "live:watched";

/// One entry of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveEvent {
    /// `job.progress`, or the CloudEvents type of a domain event.
    pub kind: String,
    /// The service that says so.
    pub service: String,
    /// Who besides admins, operators and viewers may see it: the supplier it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proveedor_id: Option<String>,
    /// What happened, as the service's API would show it.
    pub data: serde_json::Value,
}
