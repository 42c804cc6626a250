//! A year of both of the users' zones against a second implementation: the days one by one, and what the wall clock
//! shows on each.

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use schedules::Timetable;

/// When the wall clock first shows `time` on `day`, or the first moment after it where it never does.
fn first(zone: Tz, day: NaiveDate, time: NaiveTime) -> DateTime<Utc> {
    let wanted = day.and_time(time);
    let mut minute = wanted;
    loop {
        if let Some(found) = zone.from_local_datetime(&minute).earliest() {
            return found.with_timezone(&Utc);
        }
        minute += TimeDelta::minutes(1);
    }
}

fn a_year(zone: Tz, hour: u32, minute: u32) {
    let time = NaiveTime::from_hms_opt(hour, minute, 0).expect("a time");
    let cron = format!("{minute} {hour} * * *");
    let timetable = Timetable::parse(&cron, zone.name()).expect("a timetable");
    let mut day = NaiveDate::from_ymd_opt(2026, 1, 1).expect("a day");
    let mut at = first(zone, day, time) - TimeDelta::minutes(1);
    while day.year() == 2026 {
        let next = timetable.next(at).expect("a next one");
        assert_eq!(next, first(zone, day, time), "{cron} in {zone} on {day}");
        (at, day) = (next, day + Days::new(1));
    }
}

#[test]
fn every_day_has_its_run_once_in_lima_and_in_santiago() {
    for zone in [chrono_tz::America::Lima, chrono_tz::America::Santiago] {
        for (hour, minute) in [(0, 0), (0, 30), (6, 0), (23, 0), (23, 30), (1, 0)] {
            a_year(zone, hour, minute);
        }
    }
}

#[test]
fn every_three_hours_is_by_the_wall_clock_and_a_midnight_that_is_missing_is_left_out() {
    for zone in [chrono_tz::America::Lima, chrono_tz::America::Santiago] {
        let timetable = Timetable::parse("0 */3 * * *", zone.name()).expect("a timetable");
        let mut at: DateTime<Utc> = "2026-01-01T12:30:00Z".parse().expect("a time");
        at = timetable.next(at).expect("a next one");
        while at.year() == 2026 {
            let next = timetable.next(at).expect("a next one");
            let minutes = (next - at).num_minutes();
            // Santiago's clock springs from midnight to one: from 21:00 to 03:00 are five hours then.
            assert!((120..=300).contains(&minutes), "{at} to {next} in {zone}");
            at = next;
        }
    }
}
