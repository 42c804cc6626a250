use std::str::FromStr as _;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use croner::Cron;
use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Qué se hace con las horas que pasaron mientras nadie podía actuar.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, EnumIter, DeriveActiveEnum,
)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Missed {
    /// Nothing: the next time is the next one.
    #[serde(rename = "saltar")]
    #[sea_orm(string_value = "saltar")]
    Skip,
    /// The last of them is made up for.
    #[default]
    #[serde(rename = "ultima")]
    #[sea_orm(string_value = "ultima")]
    Last,
    /// Each time that was missed is made up for.
    #[serde(rename = "todas")]
    #[sea_orm(string_value = "todas")]
    All,
}

/// Why a schedule is none. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    #[error(
        "cron {0:?} inválido: se esperan cinco campos, como 0 6 * * * (minuto, hora, día, mes, día de la semana)"
    )]
    Cron(String),
    #[error("zona_horaria {0:?} desconocida: se espera una como America/Bogota")]
    Zone(String),
    #[error("cron {0:?} no llega nunca")]
    Never(String),
}

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Timetable {
    /// One a time of the day where the expression lists them, else the expression itself: only a cron of one minute and one
    /// hour neither loses its time when clocks go forward nor has it twice when they go back.
    crons: Vec<Cron>,
    zone: Tz,
    text: String,
}

impl Timetable {
    /// # Errors
    /// An expression or a zone that is none.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, BadSchedule> {
        let bad = || BadSchedule::Cron(cron.to_owned());
        if cron.split_whitespace().count() != 5 {
            return Err(bad());
        }
        let crons = times_of_day(cron);
        let crons =
            crons.iter().map(|cron| Cron::from_str(cron).map_err(|_| bad())).collect::<Result<_, _>>()?;
        let zone = Tz::from_str(zone).map_err(|_| BadSchedule::Zone(zone.to_owned()))?;
        Ok(Self { crons, zone, text: cron.to_owned() })
    }

    /// The first time after `after`.
    ///
    /// # Errors
    /// There is none: the 30th of February.
    pub fn next(&self, after: DateTime<Utc>) -> Result<DateTime<Utc>, BadSchedule> {
        let local = after.with_timezone(&self.zone);
        let next = self.crons.iter().filter_map(|cron| cron.find_next_occurrence(&local, false).ok()).min();
        next.map(|next| next.with_timezone(&Utc)).ok_or_else(|| BadSchedule::Never(self.text.clone()))
    }

    /// The day that it is at `at` where the schedule lives.
    pub fn local_day(&self, at: DateTime<Utc>) -> NaiveDate {
        at.with_timezone(&self.zone).date_naive()
    }

    /// The times to act on at `now`, of those that are due since `due`, and the next one after them. A time
    /// is missed once `grace` has passed, but not `due` itself where it was `waited` for. At most 366 of them.
    ///
    /// # Errors
    /// There is no next one.
    pub fn due(
        &self,
        due: DateTime<Utc>,
        now: DateTime<Utc>,
        grace: chrono::TimeDelta,
        missed: Missed,
        waited: bool,
    ) -> Result<(Vec<DateTime<Utc>>, DateTime<Utc>), BadSchedule> {
        let mut times = Vec::new();
        let mut time = due;
        while time <= now {
            times.push(time);
            if times.len() > 366 {
                times.remove(0);
            }
            time = self.next(time)?;
        }
        let times = match missed {
            Missed::Skip => {
                times.into_iter().filter(|time| now - *time <= grace || (waited && *time == due)).collect()
            }
            Missed::Last => times.pop().into_iter().collect(),
            Missed::All => times,
        };
        Ok((times, time))
    }
}

/// The same expression as several, one for each hour and minute that it lists; as it is where it has ranges, steps or stars
/// there.
fn times_of_day(cron: &str) -> Vec<String> {
    let fields: Vec<&str> = cron.split_whitespace().collect();
    let [minutes, hours, days @ ..] = fields.as_slice() else { return vec![cron.to_owned()] };
    let is_list = |field: &str| field.split(',').all(|one| one.parse::<u8>().is_ok());
    if !is_list(minutes) || !is_list(hours) {
        return vec![cron.to_owned()];
    }
    let days = days.join(" ");
    let times = hours.split(',').flat_map(|hour| minutes.split(',').map(move |minute| (minute, hour)));
    times.map(|(minute, hour)| format!("{minute} {hour} {days}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn six_in_bogota_is_eleven_in_utc() {
        let daily = Timetable::parse("0 6 * * *", "America/Bogota").expect("a timetable");
        let next = daily.next(time("2025-01-27T12:00:00Z")).expect("a next one");
        assert_eq!(next, time("2025-01-28T11:00:00Z"));
        assert_eq!(daily.local_day(next).to_string(), "2025-01-28");
        // Where it is still the 27th locally.
        assert_eq!(daily.local_day(time("2025-01-28T03:00:00Z")).to_string(), "2025-01-27");
    }

    #[test]
    fn a_clock_that_springs_forward_skips_no_day() {
        let night = Timetable::parse("30 2 * * *", "Europe/Madrid").expect("a timetable");
        // On 2025-03-30 there is no 02:30 in Madrid.
        let mut at = time("2025-03-28T12:00:00Z");
        let mut days = Vec::new();
        for _ in 0..3 {
            at = night.next(at).expect("a next one");
            days.push(at.with_timezone(&chrono_tz::Europe::Madrid).date_naive().to_string());
        }
        assert_eq!(days, ["2025-03-29", "2025-03-30", "2025-03-31"]);
    }

    #[test]
    fn each_time_of_a_list_comes_once_a_day_whatever_the_clocks_do() {
        // Clocks in Santiago go from 24:00 to 01:00 on 2025-09-06, and from 24:00 back to 23:00 on 2025-04-05.
        // Two times that there are not come together, at the end of what is left out.
        for (cron, start, in_four_days) in [
            ("15,45 0 * * *", "2025-09-05T12:00:00Z", 7),
            ("0 0,12 * * *", "2025-09-05T16:30:00Z", 8),
            ("0,30 23 * * *", "2025-04-04T12:00:00Z", 8),
        ] {
            let times = Timetable::parse(cron, "America/Santiago").expect("a timetable");
            let mut at = time(start);
            let end = at + TimeDelta::hours(4 * 24);
            let mut count = 0;
            loop {
                at = times.next(at).expect("a next one");
                if at > end {
                    break;
                }
                count += 1;
            }
            assert_eq!(count, in_four_days, "{cron}");
        }
    }

    #[test]
    fn missed_times_are_skipped_made_up_for_once_or_all() {
        let daily = Timetable::parse("0 6 * * *", "UTC").expect("a timetable");
        let (first, now) = (time("2025-01-25T06:00:00Z"), time("2025-01-27T09:00:00Z"));
        let due = |missed| daily.due(first, now, TimeDelta::minutes(5), missed, false).expect("times");
        let next = time("2025-01-28T06:00:00Z");
        assert_eq!(due(Missed::Skip), (vec![], next));
        assert_eq!(due(Missed::Last), (vec![time("2025-01-27T06:00:00Z")], next));
        assert_eq!(due(Missed::All).0.len(), 3);
        let on_time =
            daily.due(now, now + TimeDelta::seconds(30), TimeDelta::minutes(5), Missed::Skip, false);
        assert_eq!(on_time.expect("times").0, vec![now]);
        let waited = daily.due(first, now, TimeDelta::minutes(5), Missed::Skip, true).expect("times");
        assert_eq!(waited, (vec![first], next), "a time that was waited for was not missed");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for cron in ["", "* * * *", "61 * * * *", "0 6 * * * *", "cada día"] {
            assert_eq!(Timetable::parse(cron, "UTC").err(), Some(BadSchedule::Cron(cron.to_owned())));
        }
        assert!(matches!(Timetable::parse("0 6 * * *", "Bogotá"), Err(BadSchedule::Zone(_))));
        let never = Timetable::parse("0 0 30 2 *", "UTC").expect("well formed");
        assert!(matches!(never.next(time("2025-01-01T00:00:00Z")), Err(BadSchedule::Never(_))));
    }
}
