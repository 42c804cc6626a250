//! When a campaign ends, if its senders send at their rate and each recipient is written to in its hours.

use chrono::{DateTime, TimeDelta, Utc};

use super::windows::{Clocks, Hours};

/// Nobody plans further than this.
const HORIZON: TimeDelta = TimeDelta::days(90);

/// When the last of `work` (parts by the clocks of their recipients) has left at `per_second` parts a second, from `start` on;
/// none where that is more than 90 days away. Without `hours` all may go at any time; nothing goes before `not_before` of its
/// clocks, where there is such. What may go at a moment shares the rate.
pub fn ends(
    work: &[(Clocks, f64)],
    per_second: f64,
    hours: Option<Hours>,
    not_before: impl Fn(Clocks) -> Option<DateTime<Utc>>,
    start: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    if !(per_second.is_finite() && per_second > 0.0) {
        return None;
    }
    let mut left: Vec<(Clocks, f64)> = work.iter().copied().filter(|(_, parts)| *parts > 0.0).collect();
    let mut at = start;
    while !left.is_empty() {
        if at - start > HORIZON {
            return None;
        }
        let is_open = |clocks: Clocks| {
            not_before(clocks).is_none_or(|first| first <= at)
                && hours.is_none_or(|hours| clocks.is_open(hours, at))
        };
        let opens = |clocks: Clocks| {
            let first = not_before(clocks).map_or(at, |first| first.max(at));
            hours.map_or(Some(first), |hours| clocks.opens(hours, first))
        };
        let (open, closed): (Vec<_>, Vec<_>) = left.iter().copied().partition(|(clocks, _)| is_open(*clocks));
        // When the rate is shared otherwise: one of these closes, or one of the others opens.
        let closes = open.iter().filter_map(|(clocks, _)| clocks.closes(hours?, at));
        let opens = closed.iter().filter_map(|(clocks, _)| opens(*clocks));
        let next = closes.chain(opens).filter(|moment| *moment > at).min();
        let parts: f64 = open.iter().map(|(_, parts)| parts).sum();
        let needs = after(at, parts / per_second)?;
        match next {
            Some(next) if open.is_empty() || needs > next => {
                let sent = (next - at).as_seconds_f64() * per_second;
                let rest = |(clocks, mine): (Clocks, f64)| (clocks, mine - sent * mine / parts);
                left = open.into_iter().map(rest).chain(closed).collect();
                at = next;
            }
            None if open.is_empty() => return None,
            _ => (left, at) = (closed, needs),
        }
    }
    (at - start <= HORIZON).then_some(at)
}

fn after(at: DateTime<Utc>, seconds: f64) -> Option<DateTime<Utc>> {
    let millis = (seconds * 1e3).ceil();
    let beyond = (HORIZON.num_milliseconds() * 2) as f64;
    at.checked_add_signed(TimeDelta::milliseconds(millis.min(beyond) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a moment")
    }

    fn any(_: Clocks) -> Option<DateTime<Utc>> {
        None
    }

    fn day() -> Option<Hours> {
        Hours::new(9 * 60, 20 * 60)
    }

    #[test]
    fn without_hours_it_takes_as_long_as_the_rate_does() {
        let work = [(Clocks::Centre, 3_000.0), (Clocks::Sonora, 600.0)];
        assert_eq!(ends(&work, 1.0, None, any, at("2026-11-26T05:00:00Z")), Some(at("2026-11-26T06:00:00Z")));
        assert_eq!(ends(&[], 1.0, day(), any, at("2026-11-26T05:00:00Z")), Some(at("2026-11-26T05:00:00Z")));
        assert_eq!(ends(&work, 0.0, None, any, at("2026-11-26T05:00:00Z")), None);
    }

    #[test]
    fn what_the_day_does_not_hold_goes_the_next_morning() {
        // 19:00 in Mexico City: an hour is left, and two are needed.
        let work = [(Clocks::Centre, 7_200.0)];
        assert_eq!(
            ends(&work, 1.0, day(), any, at("2026-11-27T01:00:00Z")),
            Some(at("2026-11-27T16:00:00Z"))
        );
        // At night nothing goes.
        assert_eq!(
            ends(&work, 1.0, day(), any, at("2026-11-27T05:00:00Z")),
            Some(at("2026-11-27T17:00:00Z"))
        );
    }

    #[test]
    fn zones_share_the_rate_while_both_are_open_and_the_later_one_ends_it() {
        // 09:00 in Mexico City, 08:00 in Sonora: an hour alone, then together.
        let work = [(Clocks::Centre, 5_400.0), (Clocks::Sonora, 1_800.0)];
        assert_eq!(
            ends(&work, 1.0, day(), any, at("2026-11-26T15:00:00Z")),
            Some(at("2026-11-26T17:00:00Z"))
        );
    }

    #[test]
    fn nobody_goes_before_its_own_hour() {
        let work = [(Clocks::Centre, 600.0), (Clocks::Sonora, 600.0)];
        let ten = |clocks: Clocks| clocks.shows(at("2026-11-26T12:00:00Z").date_naive(), 600);
        // 10:00 in Mexico City is 16:00 UTC, and in Sonora an hour later.
        let ends = |hours| ends(&work, 1.0, hours, ten, at("2026-11-26T15:30:00Z"));
        assert_eq!(ends(day()), Some(at("2026-11-26T17:10:00Z")));
        assert_eq!(ends(None), Some(at("2026-11-26T17:10:00Z")));
    }

    #[test]
    fn nobody_plans_further_than_a_quarter() {
        assert_eq!(ends(&[(Clocks::Centre, 1e12)], 50.0, None, any, at("2026-11-26T15:00:00Z")), None);
        assert_eq!(ends(&[(Clocks::Centre, 1e12)], 50.0, day(), any, at("2026-11-26T15:00:00Z")), None);
    }
}
