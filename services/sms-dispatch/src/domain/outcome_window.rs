//! What became of a campaign's last messages, from sums that are looked at now and then: no message is remembered.

/// So many ended messages say how a campaign goes.
pub const WINDOW: i64 = 500;

/// How many messages have ended so far, and how many of them without arriving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub ended: i64,
    pub failed: i64,
}

/// A part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub ended: i64,
    pub failed: i64,
}

impl Share {
    /// Whether more than so many percent failed.
    pub const fn is_above(self, percent: u8) -> bool {
        self.failed * 100 > self.ended * percent as i64
    }
}

impl From<Ended> for Share {
    fn from(Ended { ended, failed }: Ended) -> Self {
        Self { ended, failed }
    }
}

/// The last of the earlier sums, in their order, that lies [`WINDOW`] messages and more before `now`, and what ended since; where
/// there is none, since the first. Sums that fell (messages are sent again) begin again: there is nothing to compare with.
pub fn since_last(known: &[Ended], now: Ended) -> (Option<Ended>, Option<Share>) {
    let base = known.iter().rev().find(|one| now.ended - one.ended >= WINDOW).or_else(|| known.first());
    let base = base.filter(|base| base.ended <= now.ended && base.failed <= now.failed).copied();
    let share = base.map(|base| Share { ended: now.ended - base.ended, failed: now.failed - base.failed });
    (base, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ended(ended: i64, failed: i64) -> Ended {
        Ended { ended, failed }
    }

    #[test]
    fn the_last_ones_count_and_not_the_many_before_them() {
        let known = [ended(0, 0), ended(10_000, 0), ended(10_400, 300), ended(10_600, 500)];
        let (base, share) = since_last(&known, ended(10_900, 790));
        assert_eq!(base, Some(ended(10_400, 300)));
        assert_eq!(share, Some(Share { ended: 500, failed: 490 }));
        assert!(share.is_some_and(|share| share.is_above(97) && !share.is_above(98)));
    }

    #[test]
    fn too_few_say_little_and_sums_that_fell_say_nothing() {
        assert_eq!(since_last(&[], ended(9, 9)), (None, None));
        let (_, share) = since_last(&[ended(0, 0)], ended(9, 9));
        assert!(share.is_some_and(|share| share.ended < WINDOW));
        assert_eq!(since_last(&[ended(600, 100)], ended(500, 0)), (None, None));
    }
}
