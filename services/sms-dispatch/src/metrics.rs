//! The service's figures. Each is counted when what it counts has committed.

use std::{collections::BTreeMap, sync::LazyLock};

use jobs::State;
use prometheus::{IntCounterVec, IntGaugeVec, register_int_counter_vec, register_int_gauge_vec};

use crate::{
    domain::{message_state::MessageState, sender::ProviderName},
    storage::batches::Done,
};

static IMPORTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "contacts_imports_total",
        "Imports of contacts that ended, by outcome.",
        &["outcome"]
    )
    .expect("registered once, with a valid name")
});

static ROWS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "contacts_rows_total",
        "Rows of imports of contacts whose outcome is committed.",
        &["outcome"]
    )
    .expect("registered once, with a valid name")
});

static LOOKUPS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "sms_lookups_total",
        "Numbers that a provider was asked about, by outcome.",
        &["provider", "outcome"]
    )
    .expect("registered once, with a valid name")
});

static LOOKUPS_SPENT: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "sms_lookups_spent_total",
        "Look-ups that were, or may have been, billed: what counts against a validation's budget.",
        &["provider"]
    )
    .expect("registered once, with a valid name")
});

static MESSAGES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "sms_messages_total",
        "Messages that came into a state, by the provider they were last given to.",
        &["provider", "state"]
    )
    .expect("registered once, with a valid name")
});

static PROVIDERS_CLOSED: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "sms_provider_closed",
        "Whether a provider takes no messages, or did not answer lately.",
        &["provider"]
    )
    .expect("registered once, with a valid name")
});

/// Makes them known before anything happens.
pub fn init() {
    for state in [State::Completed, State::Failed, State::Cancelled] {
        IMPORTS.with_label_values(&[state.name()]);
    }
    count_rows(&Done::default());
    count_lookups(ProviderName::Telnyx.name(), 0, 0, 0);
    for state in MessageState::ALL {
        for provider in ProviderName::ALL {
            MESSAGES.with_label_values(&[provider.name(), state.name()]);
        }
    }
}

/// An import of contacts has ended.
pub fn count_import(state: State) {
    IMPORTS.with_label_values(&[state.name()]).inc();
}

/// Shows whether a provider takes messages.
pub fn show_provider(provider: ProviderName, is_open: bool) {
    PROVIDERS_CLOSED.with_label_values(&[provider.name()]).set(i64::from(!is_open));
}

/// A batch of an import is committed. Rows that it staged get their outcome when they are merged.
pub fn count_rows(done: &Done) {
    for (outcome, rows) in [
        ("created", done.created),
        ("updated", done.updated),
        ("unchanged", done.unchanged),
        ("merged", done.merged),
        ("rejected", done.rejected),
    ] {
        ROWS.with_label_values(&[outcome]).inc_by(rows.unsigned_abs());
    }
}

/// What came of look-ups, and how many of them may have cost something.
pub fn count_lookups(provider: &str, answered: i64, refused: i64, spent: i64) {
    for (outcome, lookups) in [("answered", answered), ("refused", refused)] {
        LOOKUPS.with_label_values(&[provider, outcome]).inc_by(lookups.unsigned_abs());
    }
    LOOKUPS_SPENT.with_label_values(&[provider]).inc_by(spent.unsigned_abs());
}

/// Messages that change their state in a transaction, to be counted when it has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "count it when the transaction has committed"]
pub struct Tally(BTreeMap<(Option<ProviderName>, &'static str), u64>);

impl Tally {
    /// A message has come into a state; its last sender is of `provider`, if it had one.
    pub fn add(&mut self, provider: Option<ProviderName>, state: MessageState) {
        *self.0.entry((provider, state.name())).or_default() += 1;
    }

    /// The same of another's messages.
    pub fn extend(&mut self, other: Self) {
        for (key, messages) in other.0 {
            *self.0.entry(key).or_default() += messages;
        }
    }

    /// The transaction has committed.
    pub fn count(self) {
        for ((provider, state), messages) in self.0 {
            let provider = provider.map_or("none", ProviderName::name);
            MESSAGES.with_label_values(&[provider, state]).inc_by(messages);
        }
    }
}
