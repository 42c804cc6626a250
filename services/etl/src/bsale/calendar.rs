//! Days as Bsale has them.

use chrono::{DateTime, Days, NaiveDate, Utc};

/// The first moment of a day.
pub fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// A day so many days before.
pub fn before(day: NaiveDate, days: u32) -> NaiveDate {
    day.checked_sub_days(Days::new(days.into())).unwrap_or(NaiveDate::MIN)
}

/// The first and last second of a day, as Bsale's ranges have them.
pub fn range(from: NaiveDate, to: NaiveDate) -> String {
    let start = from.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
    let end = to.and_time(chrono::NaiveTime::MIN).and_utc().timestamp() + 86_399;
    format!("[{start},{end}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_days_whole() {
        let day = NaiveDate::from_ymd_opt(2016, 5, 18).expect("a day");
        assert_eq!(range(day, day), "[1463529600,1463615999]");
    }
}
