//! How a provider is told to misbehave, and what becomes of its messages.

use serde::{Deserialize, Serialize};

/// How the provider misbehaves; everything that is left out is off. Shares are from 0 to 1, of messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// What chance begins with.
    pub seed: u64,
    /// Accepted, and the connection cut before the answer.
    pub lost_answers: f64,
    /// Accepted, and half of the answer's body.
    pub broken_answers: f64,
    /// The connection cut before anything happened.
    pub cut: f64,
    /// 503, and nothing accepted. A client can't know that.
    pub unavailable: f64,
    /// 500, and accepted all the same.
    pub accepted_errors: f64,
    /// Requests a second; what is above gets 429. 0: no limit.
    pub per_second: u32,
    /// What may still be spent, in millionths of a dollar; none: no end.
    pub credit_micros: Option<i64>,
    /// Telnyx's 40333: the profile's daily limit is reached.
    pub spend_limit: bool,
    /// 40318, 21611: the sender's queue is full.
    pub queue_full: bool,
    /// Senders that aren't usable: 40305, 21606.
    pub bad_senders: Vec<String>,
    /// How long an answer takes.
    pub answer_ms: u64,
    /// Whether the last two digits of a phone decide what becomes of its message: see [`Fate::of_digits`].
    pub fates: bool,
    /// From acceptance until the carrier has it, and until the last report.
    pub sent_ms: u64,
    pub final_ms: u64,
    /// Whether reports are sent at all.
    pub webhooks: bool,
    /// Reports are up to so much later.
    pub late_ms: u64,
    /// Reports twice.
    pub doubled: f64,
    /// The last report before the first.
    pub reordered: f64,
    /// Both reports before the answer to the submission.
    pub early: f64,
    /// No report.
    pub lost_webhooks: f64,
    /// Whether texts are remembered; without them a search by text finds nothing.
    pub texts: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: 1,
            lost_answers: 0.0,
            broken_answers: 0.0,
            cut: 0.0,
            unavailable: 0.0,
            accepted_errors: 0.0,
            per_second: 0,
            credit_micros: None,
            spend_limit: false,
            queue_full: false,
            bad_senders: Vec::new(),
            answer_ms: 0,
            fates: false,
            sent_ms: 20,
            final_ms: 60,
            webhooks: true,
            late_ms: 0,
            doubled: 0.0,
            reordered: 0.0,
            early: 0.0,
            lost_webhooks: 0.0,
            texts: true,
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Delivered,
    /// Telnyx reports it, Twilio refuses it.
    Landline,
    Undeliverable,
    Expired,
    /// The carrier never says what became of it.
    Unconfirmed,
    /// Refused: no such number.
    Invalid,
    /// Refused: its owner opted out.
    OptedOut,
    /// Nothing more is heard of it after its acceptance, and no record comes.
    Stuck,
}

impl Fate {
    /// `…01` is a landline, `…02` can't be reached, `…03` opted out, `…04` doesn't exist, `…05` expires, `…06` is never
    /// confirmed; all else is delivered.
    pub fn of_digits(phone: u64) -> Self {
        match phone % 100 {
            1 => Self::Landline,
            2 => Self::Undeliverable,
            3 => Self::OptedOut,
            4 => Self::Invalid,
            5 => Self::Expired,
            6 => Self::Unconfirmed,
            _ => Self::Delivered,
        }
    }
}
