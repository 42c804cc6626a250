//! When the recipients of a slice may be written to. A slice's recipients share a time zone, by whose name it is known.

use std::sync::LazyLock;

use chrono::{DateTime, Days, NaiveTime, TimeZone as _, Utc};
use chrono_tz::Tz;

use crate::domain::{State, ladas};

/// Where neither the state nor the LADA says where a recipient is: the hours that are in the window everywhere.
pub const NARROWEST: &str = "MX";

/// By state, or by LADA, the name of the zone.
pub fn zones() -> &'static [(String, String)] {
    static ZONES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let states = State::all().map(|state| (state.code().to_owned(), state.zone().to_owned()));
        let ladas = ladas::all().filter_map(|(lada, info)| {
            Some((lada.as_str().to_owned(), info.state?.zone().to_owned()))
        });
        states.chain(ladas).collect()
    });
    &ZONES
}

/// When a zone's window is next open: `now` where it is.
pub fn opens_at(zone: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let (from, to) = (NaiveTime::from_hms_opt(9, 0, 0)?, NaiveTime::from_hms_opt(20, 0, 0)?);
    let zone: Tz = zone.parse().unwrap_or(chrono_tz::America::Mexico_City);
    let local = now.with_timezone(&zone);
    if (from..to).contains(&local.time()) {
        return Some(now);
    }
    let day = if local.time() < from { local.date_naive() } else { local.date_naive() + Days::new(1) };
    zone.from_local_datetime(&day.and_time(from)).earliest().map(|at| at.to_utc())
}
