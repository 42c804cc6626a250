//! The hour at which each recipient of a campaign is written to, by the clock on its own wall.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::windows::{Clocks, Hours};

/// An hour of a day, wherever that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnHour {
    pub date: NaiveDate,
    /// Of the day, from 0.
    pub minute: i16,
}

impl OwnHour {
    /// From `"10:00"` on a day; none where that is no hour of a day.
    pub fn parse(date: NaiveDate, text: &str) -> Option<Self> {
        // As hours that last until the day's end are read: nobody writes a time of day otherwise.
        let (minute, _) = Hours::parse(text, "24:00")?.minutes();
        Some(Self { date, minute: i16::try_from(minute).ok()? })
    }

    /// Whether it lies within these hours.
    pub fn is_within(self, hours: Hours) -> bool {
        let (from, until) = hours.minutes();
        u16::try_from(self.minute).is_ok_and(|minute| (from..until).contains(&minute))
    }

    /// When it comes for who lives by these clocks: where several may be meant, by the last of them.
    pub fn at(self, clocks: Clocks) -> Option<DateTime<Utc>> {
        clocks.shows(self.date, u16::try_from(self.minute).ok()?)
    }

    /// When it comes first, and last, anywhere.
    pub fn first_and_last(self) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let moments = || Clocks::ALL.into_iter().filter_map(|clocks| self.at(clocks));
        moments().min().zip(moments().max())
    }
}

/// As clocks show it: `10:00`.
impl fmt::Display for OwnHour {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(date: &str, text: &str) -> OwnHour {
        OwnHour::parse(date.parse().expect("a day"), text).expect("an hour")
    }

    fn at(text: &str) -> Option<DateTime<Utc>> {
        Some(text.parse().expect("a moment"))
    }

    #[test]
    fn an_hour_comes_to_each_zone_by_its_own_clock() {
        let winter = hour("2026-11-26", "10:00");
        for (clocks, moment) in [
            (Clocks::Southeast, "2026-11-26T15:00:00Z"),
            (Clocks::Centre, "2026-11-26T16:00:00Z"),
            (Clocks::Pacific, "2026-11-26T17:00:00Z"),
            (Clocks::Sonora, "2026-11-26T17:00:00Z"),
            (Clocks::BajaCalifornia, "2026-11-26T18:00:00Z"),
            // Bahía de Banderas has it an hour before the rest of the state.
            (Clocks::Nayarit, "2026-11-26T17:00:00Z"),
            (Clocks::Anywhere, "2026-11-26T18:00:00Z"),
        ] {
            assert_eq!(winter.at(clocks), at(moment), "{clocks:?}");
        }
        // The border has the summer time of the United States, nobody else any.
        let summer = hour("2026-07-01", "10:00");
        assert_eq!(summer.at(Clocks::BajaCalifornia), at("2026-07-01T17:00:00Z"));
        assert_eq!(summer.at(Clocks::Northeast), at("2026-07-01T16:00:00Z"), "Monterrey, after Matamoros");
        assert_eq!(winter.first_and_last(), at("2026-11-26T15:00:00Z").zip(at("2026-11-26T18:00:00Z")));
    }

    #[test]
    fn an_hour_is_one_of_a_day_and_may_be_asked_whether_it_is_quiet() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 26).expect("a day");
        for wrong in ["", "24:00", "9:00", "09:60", "25:00", "diez", "10:00:00"] {
            assert_eq!(OwnHour::parse(day, wrong), None, "{wrong}");
        }
        for (text, within) in
            [("08:59", false), ("09:00", true), ("19:59", true), ("20:00", false), ("00:00", false)]
        {
            let hour = hour("2026-11-26", text);
            assert_eq!((hour.is_within(Hours::default()), hour.to_string().as_str()), (within, text));
        }
    }
}
