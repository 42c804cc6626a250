//! Rates and amounts, as the dashboards show them. All arithmetic is decimal; a float is only how JSON spells the result.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, TimeZone as _, Utc, Weekday};
use chrono_tz::America::Lima;
use rust_decimal::{Decimal, RoundingStrategy, prelude::ToPrimitive as _};

/// `part` of `whole` in percent, to one decimal, halves away from zero; 0 of nothing.
pub fn percent(part: impl Into<Decimal>, whole: impl Into<Decimal>) -> f64 {
    ratio(part.into() * Decimal::ONE_HUNDRED, whole)
}

/// `part` by `whole` to one decimal, halves away from zero; 0 by nothing.
pub fn ratio(part: impl Into<Decimal>, whole: impl Into<Decimal>) -> f64 {
    let whole = whole.into();
    if whole.is_zero() {
        return 0.0;
    }
    float((part.into() / whole).round_dp_with_strategy(1, RoundingStrategy::MidpointAwayFromZero))
}

/// By how much `now` differs from `before`, in percent of that. From nothing to something it is 100.
pub fn variation(now: Decimal, before: Decimal) -> f64 {
    match (before.is_zero(), now.is_zero()) {
        (true, true) => 0.0,
        (true, false) => 100.0,
        (false, _) => percent(now - before, before),
    }
}

/// An amount by a number, to the cent.
pub fn average(amount: Decimal, number: i64) -> Decimal {
    if number == 0 {
        return Decimal::ZERO;
    }
    (amount / Decimal::from(number)).round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
}

/// The double that is nearest: exact for what has up to 15 digits.
pub fn float(amount: Decimal) -> f64 {
    amount.to_f64().unwrap_or_default()
}

/// The first moment of a day in Lima.
pub fn lima_midnight(day: NaiveDate) -> DateTime<Utc> {
    let midnight = day.and_time(NaiveTime::MIN);
    // Lima's clocks have not been changed since 1994; where they were, the hour that there was.
    Lima.from_local_datetime(&midnight).earliest().map_or_else(|| midnight.and_utc(), |at| at.to_utc())
}

/// Mondays to Fridays of a span, its ends included, that are no holidays.
pub fn working_days(from: NaiveDate, to: NaiveDate, holidays: &[NaiveDate]) -> i64 {
    let days = from.iter_days().take_while(|day| *day <= to);
    let works =
        |day: &NaiveDate| !matches!(day.weekday(), Weekday::Sat | Weekday::Sun) && !holidays.contains(day);
    i64::try_from(days.filter(works).count()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    #[test]
    fn percentages_have_one_decimal_and_halves_go_up() {
        assert_eq!(percent(1, 3), 33.3);
        assert_eq!(percent(2, 3), 66.7);
        assert_eq!(percent(1, 2000), 0.1, "0.05 is no 0.0");
        assert_eq!(percent(0, 0), 0.0);
        assert_eq!(percent(7, 7), 100.0);
    }

    #[test]
    fn a_variation_from_nothing_is_100_or_0() {
        let (none, some) = (Decimal::ZERO, Decimal::from(5));
        assert_eq!(variation(some, none), 100.0);
        assert_eq!(variation(none, none), 0.0);
        assert_eq!(variation(none, some), -100.0);
        assert_eq!(variation(Decimal::from(6), some), 20.0);
    }

    #[test]
    fn amounts_keep_their_cents() {
        assert_eq!(float(Decimal::new(999_999_999_999_999, 2)), 9_999_999_999_999.99);
    }

    #[test]
    fn weekends_and_holidays_are_not_worked() {
        // 2025-06-29 is a Sunday and San Pedro y San Pablo.
        assert_eq!(working_days(day("2025-06-27"), day("2025-07-02"), &[]), 4);
        assert_eq!(working_days(day("2025-06-27"), day("2025-07-02"), &[day("2025-07-01")]), 3);
        assert_eq!(working_days(day("2025-06-28"), day("2025-06-29"), &[]), 0);
        assert_eq!(working_days(day("2025-07-02"), day("2025-07-01"), &[]), 0);
    }
}
