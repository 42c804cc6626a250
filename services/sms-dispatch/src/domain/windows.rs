//! When a recipient may be written to: within quiet hours' limits by the clock on its own wall, as far as anyone can know
//! that. Where a state has several zones, or nothing is known, a moment has to be right in all of them.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::{America, Tz};

use super::ladas;
use super::phone::Lada;
use super::states::State;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// From and until, in minutes of the local day; `until` is outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: u16,
    until: u16,
}

/// 09:00 to 20:00, which satisfies every rule with stated hours.
impl Default for Hours {
    fn default() -> Self {
        Self { from: 9 * 60, until: 20 * 60 }
    }
}

impl Hours {
    /// From and until as minutes of the day; none unless `from < until <= 1440`.
    pub fn new(from: u16, until: u16) -> Option<Self> {
        (from < until && until <= DAY).then_some(Self { from, until })
    }

    /// From `"09:00"` and `"20:00"`; the end of the day is `"24:00"`.
    pub fn parse(from: &str, until: &str) -> Option<Self> {
        let minutes = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            let (hours, minutes) = (digits(hours).then_some(hours)?, digits(minutes).then_some(minutes)?);
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            (minutes < 60).then_some(hours * 60 + minutes)
        };
        Self::new(minutes(from)?, minutes(until)?)
    }

    /// The hours in both; none where they have nothing in common.
    pub fn within(self, other: Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.until.min(other.until))
    }

    /// From and until, in minutes of the day.
    pub fn minutes(self) -> (u16, u16) {
        (self.from, self.until)
    }
}

/// The clocks that a recipient may live by. Recipients of one slice share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum Clocks {
    /// Nobody knows where: every zone of Mexico.
    Anywhere = 0,
    Centre = 1,
    /// Quintana Roo.
    Southeast = 2,
    /// Baja California Sur and Sinaloa.
    Pacific = 3,
    Sonora = 4,
    /// Baja California, with the summer time of California.
    BajaCalifornia = 5,
    /// Most of it lives by the Pacific's time, Bahía de Banderas by the centre's.
    Nayarit = 6,
    /// The border has the summer time of the United States: Juárez with Denver, Ojinaga with Chicago.
    Chihuahua = 7,
    /// Coahuila, Nuevo León and Tamaulipas: their border has the summer time of Texas.
    Northeast = 8,
}

impl Clocks {
    pub const ALL: [Self; 9] = [
        Self::Anywhere,
        Self::Centre,
        Self::Southeast,
        Self::Pacific,
        Self::Sonora,
        Self::BajaCalifornia,
        Self::Nayarit,
        Self::Chihuahua,
        Self::Northeast,
    ];

    /// By the state; where there is none, by the only state of the LADA; else anywhere.
    pub fn of(state: Option<State>, lada: Lada) -> Self {
        let state = state.or_else(|| ladas::of(lada).and_then(|info| info.state));
        state.map_or(Self::Anywhere, Self::of_state)
    }

    fn of_state(state: State) -> Self {
        match state.code() {
            "QROO" => Self::Southeast,
            "BCS" | "SIN" => Self::Pacific,
            "SON" => Self::Sonora,
            "BC" => Self::BajaCalifornia,
            "NAY" => Self::Nayarit,
            "CHIH" => Self::Chihuahua,
            "COAH" | "NL" | "TAMPS" => Self::Northeast,
            _ => Self::Centre,
        }
    }

    /// Its number in tables. Numbers are never reused.
    pub const fn code(self) -> i16 {
        self as i16
    }

    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|clocks| clocks.code() == code)
    }

    /// The zones, as IANA has them (`zone1970.tab`, `northamerica`).
    pub const fn zones(self) -> &'static [Tz] {
        match self {
            Self::Anywhere => &[
                America::Mexico_City,
                America::Cancun,
                America::Mazatlan,
                America::Hermosillo,
                America::Tijuana,
                America::Bahia_Banderas,
                America::Chihuahua,
                America::Ciudad_Juarez,
                America::Ojinaga,
                America::Monterrey,
                America::Matamoros,
                America::Merida,
            ],
            Self::Centre => &[America::Mexico_City, America::Merida],
            Self::Southeast => &[America::Cancun],
            Self::Pacific => &[America::Mazatlan],
            Self::Sonora => &[America::Hermosillo],
            Self::BajaCalifornia => &[America::Tijuana],
            Self::Nayarit => &[America::Mazatlan, America::Bahia_Banderas],
            Self::Chihuahua => &[America::Chihuahua, America::Ciudad_Juarez, America::Ojinaga],
            Self::Northeast => &[America::Monterrey, America::Matamoros],
        }
    }

    /// Whether `at` is within the hours in every zone.
    pub fn is_open(self, hours: Hours, at: DateTime<Utc>) -> bool {
        self.zones().iter().all(|zone| {
            let local = at.with_timezone(zone);
            let minute = local.hour() * 60 + local.minute();
            (u32::from(hours.from)..u32::from(hours.until)).contains(&minute)
        })
    }

    /// The first moment from `at` on that is within the hours in every zone: `at` itself, or the next opening. None where
    /// the zones have no moment in common.
    pub fn opens(self, hours: Hours, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.is_open(hours, at) {
            return Some(at);
        }
        // A common window begins where one of the zones' windows does, or where a clock is set back.
        self.moments(hours.from, at).into_iter().find(|moment| self.is_open(hours, *moment))
    }

    /// The first moment after `at` that is outside the hours in some zone; none where that never comes.
    pub fn closes(self, hours: Hours, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.moments(hours.until, at).into_iter().find(|moment| !self.is_open(hours, *moment))
    }

    /// When a minute of a day has come by all of these clocks; a minute that a clock jumps over comes where it lands.
    pub fn shows(self, date: NaiveDate, minute: u16) -> Option<DateTime<Utc>> {
        self.zones().iter().filter_map(|zone| shown(*zone, date, minute).into_iter().min()).max()
    }

    /// When a clock of some zone shows a minute of the day, from `at` on for more than a week, in order.
    fn moments(self, minute: u16, at: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let mut moments: Vec<DateTime<Utc>> = Vec::new();
        for zone in self.zones() {
            let today = at.with_timezone(zone).date_naive();
            for day in 0..9 {
                let date = today.checked_add_days(Days::new(day)).unwrap_or(today);
                moments.extend(shown(*zone, date, minute));
            }
            // The day before, for the minute that ends a day.
            moments.extend(today.pred_opt().into_iter().flat_map(|date| shown(*zone, date, minute)));
        }
        moments.retain(|moment| *moment >= at);
        moments.sort_unstable();
        moments.dedup();
        moments
    }
}

/// When a zone's clock shows a minute of a day: once, twice where it is set back, and where it jumps over the minute, when
/// it lands.
fn shown(zone: Tz, date: NaiveDate, minute: u16) -> Vec<DateTime<Utc>> {
    let local = date.and_time(NaiveTime::MIN) + TimeDelta::minutes(i64::from(minute));
    let found = zone.from_local_datetime(&local);
    let moments = [found.earliest(), found.latest()];
    if let [None, None] = moments {
        let landed = (1..=180)
            .find_map(|later| zone.from_local_datetime(&(local + TimeDelta::minutes(later))).earliest());
        return landed.map(|moment| moment.to_utc()).into_iter().collect();
    }
    moments.into_iter().flatten().map(|moment| moment.to_utc()).collect()
}

#[cfg(test)]
#[path = "windows_tests.rs"]
mod tests;
