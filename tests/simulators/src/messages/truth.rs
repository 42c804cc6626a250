//! What was accepted, and when: what a test goes by.

use std::collections::{HashMap, hash_map::Entry};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::faults::Fate;
use super::state::{Message, Stage, State};

/// What the client learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Whole,
    Lost,
    Broken,
    Error,
}

/// An accepted message as it was; the truth that a test goes by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Its number, from 0, in order of acceptance.
    pub number: usize,
    pub at: DateTime<Utc>,
    /// The provider's id.
    pub id: Uuid,
    pub to: String,
    pub from: String,
    pub callback_url: String,
    pub text: Option<String>,
    pub parts: u8,
    pub ucs2: bool,
    pub fate: Fate,
    pub answer: Answer,
    /// The messaging service (Twilio) that it was sent through.
    #[serde(skip)]
    pub(super) service: String,
    #[serde(skip)]
    pub(super) stage: Option<Stage>,
    #[serde(skip)]
    pub(super) sent_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    pub(super) final_at: Option<DateTime<Utc>>,
}

/// What was accepted, in figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    pub accepted: usize,
    pub parts: usize,
    /// Different recipients, and those that got more than one message.
    pub phones: usize,
    pub repeated_phones: usize,
    /// Messages whose callback's UUID and what follows it were there before: the same attempt, accepted twice.
    pub repeated_callbacks: usize,
    /// Accepted without a whole answer.
    pub lost_answers: usize,
    /// Submissions of all kinds; refused for their content; interrupted before.
    pub requests: u64,
    pub refused: u64,
    pub interrupted: u64,
    pub webhooks_delivered: u64,
    pub webhooks_failed: u64,
    pub credit_micros: Option<i64>,
    /// The most messages, and the most parts, of any second.
    pub worst_second: usize,
    pub worst_second_parts: usize,
    pub first_at: Option<DateTime<Utc>>,
    pub last_at: Option<DateTime<Utc>>,
}

impl State {
    /// What a test asks first.
    pub fn summary(&self) -> Summary {
        let mut phones: HashMap<u64, u32> = HashMap::with_capacity(self.messages.len());
        let mut callbacks: HashMap<(u128, u32), u32> = HashMap::with_capacity(self.messages.len());
        let mut summary = Summary {
            accepted: self.messages.len(),
            requests: self.requests,
            refused: self.refused,
            interrupted: self.interrupted,
            webhooks_delivered: self.webhooks_delivered,
            webhooks_failed: self.webhooks_failed,
            credit_micros: self.faults.credit_micros,
            ..Summary::default()
        };
        for message in &self.messages {
            *phones.entry(message.to).or_default() += 1;
            match callbacks.entry((message.url.id, message.url.after)) {
                Entry::Occupied(mut entry) => {
                    *entry.get_mut() += 1;
                    summary.repeated_callbacks += 1;
                }
                Entry::Vacant(entry) => {
                    entry.insert(1);
                }
            }
            summary.parts += usize::from(message.parts);
            summary.lost_answers += usize::from(message.answer != Answer::Whole);
        }
        summary.phones = phones.len();
        summary.repeated_phones = phones.values().filter(|times| **times > 1).count();
        // The worst second, wherever it begins.
        let mut first = 0;
        let mut parts = 0;
        for (last, message) in self.messages.iter().enumerate() {
            parts += usize::from(message.parts);
            while let Some(oldest) =
                self.messages.get(first).filter(|oldest| message.at - oldest.at >= 1_000_000)
            {
                parts -= usize::from(oldest.parts);
                first += 1;
            }
            summary.worst_second = summary.worst_second.max(last + 1 - first);
            summary.worst_second_parts = summary.worst_second_parts.max(parts);
        }
        let at = |message: Option<&Message>| {
            message.and_then(|message| DateTime::from_timestamp_micros(message.at))
        };
        (summary.first_at, summary.last_at) = (at(self.messages.first()), at(self.messages.last()));
        summary
    }
}
