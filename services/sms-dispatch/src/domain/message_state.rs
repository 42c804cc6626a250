//! Where a message stands. One function takes what the submission, the webhooks and the reconciler observe, in whatever
//! order they come, and only ever moves forward.

/// Where a message stands.
///
/// The path of one attempt is pending → submitting → accepted → sent → delivered, failed, expired or unconfirmed. An
/// attempt that nobody knows the outcome of is unknown, and stays so until something is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum MessageState {
    /// Not sent: never yet, or the last attempt was surely not accepted.
    Pending = 0,
    /// A request may be under way.
    Submitting = 1,
    /// A request was made, and nobody knows what became of it. It is not sent again on a guess.
    Unknown = 2,
    /// The provider has it.
    Accepted = 3,
    /// The provider gave it to the carrier.
    Sent = 4,
    Delivered = 5,
    /// It never arrives: refused, or undeliverable.
    Failed = 6,
    /// It did not arrive within its validity.
    Expired = 7,
    /// The provider's last word is that it knows nothing, or it said nothing for 72 hours.
    Unconfirmed = 8,
    /// Not sent, for a reason that showed when its turn came: suppressed, over the cap, expired.
    Skipped = 9,
    /// Not sent, because its campaign was cancelled.
    Cancelled = 10,
}

/// What is observed of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Observed {
    /// Nobody knows: no answer, or one that says nothing; or the deadline has passed.
    Unknown,
    /// Surely not accepted, and it may be sent again.
    NotAccepted,
    /// The provider has it.
    Accepted,
    /// The carrier has it.
    Sent,
    Delivered,
    /// Refused for good, or undeliverable.
    Failed,
    Expired,
    Unconfirmed,
}

impl MessageState {
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Submitting,
        Self::Unknown,
        Self::Accepted,
        Self::Sent,
        Self::Delivered,
        Self::Failed,
        Self::Expired,
        Self::Unconfirmed,
        Self::Skipped,
        Self::Cancelled,
    ];

    /// Its number in the ledger. Numbers are never reused.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The state of a number of the ledger.
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Its name in APIs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Submitting => "submitting",
            Self::Unknown => "unknown",
            Self::Accepted => "accepted",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Unconfirmed => "unconfirmed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether a provider surely had the message: it counts for caps, and in report's `SENT`.
    pub const fn reached_provider(self) -> bool {
        matches!(self, Self::Accepted | Self::Sent | Self::Delivered | Self::Expired | Self::Unconfirmed)
    }

    /// Whether nothing more is expected. A late observation may still move it: a message that was reported as failed
    /// and arrives after all is delivered.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            Self::Delivered
                | Self::Failed
                | Self::Expired
                | Self::Unconfirmed
                | Self::Skipped
                | Self::Cancelled
        )
    }

    /// How much is known of an attempt. Observations move a state up this ladder, never down, and the highest one wins
    /// whatever came first: so the order in which they come can't matter.
    const fn rung(self) -> u8 {
        match self {
            Self::Submitting => 0,
            Self::Unknown => 1,
            // After an attempt that was surely not accepted. Our own decisions not to send stand on the same rung: a
            // signed report that it was sent after all is the truth.
            Self::Pending | Self::Skipped | Self::Cancelled => 2,
            Self::Accepted => 3,
            Self::Sent => 4,
            Self::Unconfirmed => 5,
            Self::Expired => 6,
            Self::Failed => 7,
            // Whoever has it on the phone has it, whatever else was reported.
            Self::Delivered => 8,
        }
    }
}

impl Observed {
    const fn state(self) -> MessageState {
        match self {
            Self::Unknown => MessageState::Unknown,
            Self::NotAccepted => MessageState::Pending,
            Self::Accepted => MessageState::Accepted,
            Self::Sent => MessageState::Sent,
            Self::Delivered => MessageState::Delivered,
            Self::Failed => MessageState::Failed,
            Self::Expired => MessageState::Expired,
            Self::Unconfirmed => MessageState::Unconfirmed,
        }
    }
}

/// A message's state and the number of its last attempt; 0 before the first.
///
/// Claiming a pending message makes the next attempt: its number is one higher. Whoever lets a failed message be sent
/// again raises the number too, so that no late report of the old attempt ends the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: MessageState,
    pub attempt: i16,
}

impl Standing {
    /// The state after something was observed of an attempt; none where that changes nothing: it was known already, or it
    /// is of another attempt.
    pub fn after(self, attempt: i16, observed: Observed) -> Option<MessageState> {
        let state = observed.state();
        let forward = attempt == self.attempt && attempt > 0 && state.rung() > self.state.rung();
        forward.then_some(state)
    }

    /// The attempt that claiming it makes; none unless it is pending.
    pub fn claim(self) -> Option<Self> {
        let attempt = self.attempt.checked_add(1)?;
        (self.state == MessageState::Pending).then_some(Self { state: MessageState::Submitting, attempt })
    }

    /// Pending again on a person's order, under a number of its own; none unless it failed, expired, or is unknown.
    pub fn again(self) -> Option<Self> {
        let attempt = self.attempt.checked_add(1)?;
        let may = matches!(self.state, MessageState::Failed | MessageState::Expired | MessageState::Unknown);
        may.then_some(Self { state: MessageState::Pending, attempt })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OBSERVATIONS: [Observed; 8] = [
        Observed::Unknown,
        Observed::NotAccepted,
        Observed::Accepted,
        Observed::Sent,
        Observed::Delivered,
        Observed::Failed,
        Observed::Expired,
        Observed::Unconfirmed,
    ];

    fn after_all(start: Standing, seen: &[(i16, Observed)]) -> Standing {
        seen.iter().fold(start, |at, (attempt, observed)| {
            at.after(*attempt, *observed).map_or(at, |state| Standing { state, ..at })
        })
    }

    fn observations() -> impl Strategy<Value = Vec<(i16, Observed)>> {
        proptest::collection::vec((1..4_i16, proptest::sample::select(OBSERVATIONS.to_vec())), 0..8)
    }

    fn standing() -> impl Strategy<Value = Standing> {
        (proptest::sample::select(MessageState::ALL.to_vec()), 0..4_i16)
            .prop_map(|(state, attempt)| Standing { state, attempt })
    }

    proptest! {
        #[test]
        fn the_order_of_observations_does_not_matter(
            start in standing(),
            (seen, shuffled) in observations().prop_flat_map(|seen| (Just(seen.clone()), Just(seen).prop_shuffle())),
        ) {
            prop_assert_eq!(after_all(start, &seen), after_all(start, &shuffled));
        }

        #[test]
        fn a_state_never_goes_back_and_repetitions_change_nothing(start in standing(), seen in observations()) {
            let mut at = start;
            for (attempt, observed) in &seen {
                if let Some(state) = at.after(*attempt, *observed) {
                    prop_assert!(state.rung() > at.state.rung());
                    prop_assert_eq!(*attempt, at.attempt);
                    at.state = state;
                }
            }
            prop_assert_eq!(after_all(at, &seen), at);
        }
    }

    #[test]
    fn each_path_of_an_attempt() {
        use MessageState::*;
        let start = Standing { state: Pending, attempt: 0 };
        let claimed = start.claim().expect("it is pending");
        assert_eq!(claimed, Standing { state: Submitting, attempt: 1 });
        for (seen, end) in [
            (vec![], Submitting),
            (vec![Observed::Accepted, Observed::Sent, Observed::Delivered], Delivered),
            // The webhook came before the answer.
            (vec![Observed::Delivered, Observed::Accepted], Delivered),
            // The answer was lost, the webhook not.
            (vec![Observed::Unknown, Observed::Sent], Sent),
            // Someone else had given it up when the refusal came.
            (vec![Observed::Unknown, Observed::NotAccepted], Pending),
            (vec![Observed::NotAccepted, Observed::Unknown], Pending),
            (vec![Observed::Accepted, Observed::Unconfirmed, Observed::Delivered], Delivered),
            (vec![Observed::Accepted, Observed::Failed, Observed::Sent], Failed),
            (vec![Observed::Accepted, Observed::Expired, Observed::Sent], Expired),
        ] {
            let seen: Vec<_> = seen.into_iter().map(|observed| (1, observed)).collect();
            assert_eq!(after_all(claimed, &seen).state, end, "{seen:?}");
        }
    }

    #[test]
    fn what_is_said_of_another_attempt_changes_nothing() {
        let failed = Standing { state: MessageState::Failed, attempt: 1 };
        let again = failed.again().expect("it failed");
        assert_eq!(again, Standing { state: MessageState::Pending, attempt: 2 });
        assert_eq!(again.after(1, Observed::Failed), None);
        let claimed = again.claim().expect("it is pending");
        assert_eq!(claimed, Standing { state: MessageState::Submitting, attempt: 3 });
        assert_eq!(claimed.after(1, Observed::Delivered), None);
        assert_eq!(claimed.after(4, Observed::Delivered), None);
        assert_eq!(claimed.after(3, Observed::Delivered), Some(MessageState::Delivered));
        // Before any attempt there is nothing to observe.
        assert_eq!(Standing { state: MessageState::Pending, attempt: 0 }.after(0, Observed::Sent), None);
    }

    #[test]
    fn only_what_is_pending_is_claimed_and_only_ends_without_a_delivery_are_repeated() {
        for state in MessageState::ALL {
            let at = Standing { state, attempt: 1 };
            assert_eq!(at.claim().is_some(), state == MessageState::Pending, "{state:?}");
            let repeatable =
                matches!(state, MessageState::Failed | MessageState::Expired | MessageState::Unknown);
            assert_eq!(at.again().is_some(), repeatable, "{state:?}");
            assert_eq!(MessageState::from_code(state.code()), Some(state));
            assert_eq!(MessageState::parse(state.name()), Some(state));
        }
        assert_eq!(MessageState::from_code(11), None);
    }
}
