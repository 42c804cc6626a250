use chrono::{DateTime, SubsecRound as _, Utc};
use contracts::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a message travels in: CloudEvents 1.0, structured mode, JSON; the same on every transport.
/// Extension names are lower case without separators, as the specification (3.1) demands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Always `1.0`.
    pub specversion: String,
    /// UUIDv7. The same over retries and replays: what an inbox remembers.
    pub id: Uuid,
    /// The message's full protobuf name, with its version.
    #[serde(rename = "type")]
    pub kind: String,
    /// The service that sent it, as `/lote/<service>`.
    pub source: String,
    /// What it is about: a job's or an entity's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// When it was written, UTC.
    pub time: DateTime<Utc>,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// W3C trace context of the sender.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
    /// The request or schedule that all began with.
    #[serde(rename = "correlationid", skip_serializing_if = "Option::is_none", default)]
    pub correlation_id: Option<String>,
    /// The message whose handler sent this one.
    #[serde(rename = "causationid", skip_serializing_if = "Option::is_none", default)]
    pub causation_id: Option<Uuid>,
    /// How often it came back from the dead letters.
    #[serde(rename = "replaycount", skip_serializing_if = "is_zero", default)]
    pub replay_count: u32,
    /// The message in the proto3 JSON mapping, so that a person can read a dead letter.
    pub data: serde_json::Value,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Envelope {
    /// Wraps a message of `service`, with a new id and the present time.
    ///
    /// # Errors
    /// A message that has no JSON form (a float that is not a number).
    pub fn new<M: Message>(service: &str, message: &M) -> serde_json::Result<Self> {
        Ok(Self {
            specversion: "1.0".into(),
            id: Uuid::now_v7(),
            kind: M::TYPE.into(),
            source: format!("/lote/{service}"),
            subject: None,
            time: Utc::now().trunc_subsecs(6),
            datacontenttype: "application/json".into(),
            traceparent: None,
            correlation_id: None,
            causation_id: None,
            replay_count: 0,
            data: serde_json::to_value(message)?,
        })
    }

    /// The same, about `subject`.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The same, as part of the trace of the present span, if there is one.
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.traceparent = crate::trace::traceparent();
        self
    }
}
