//! Why a phone must not be written to, and from when.

use chrono::{DateTime, Days, NaiveDate, Utc};
use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Por qué no se debe escribir a un teléfono.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[schema(as = SuppressionCause)]
#[serde(rename_all = "snake_case")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Cause {
    /// Its owner said so.
    #[sea_orm(string_value = "opt_out")]
    OptOut,
    /// It is in Profeco's register of consumers who want no advertising.
    #[sea_orm(string_value = "repep")]
    Repep,
    /// It is in Condusef's register of users of financial services who want no advertising.
    #[sea_orm(string_value = "reus")]
    Reus,
    /// We decided so.
    #[sea_orm(string_value = "manual")]
    Manual,
}

impl Cause {
    pub const ALL: [Self; 4] = [Self::OptOut, Self::Repep, Self::Reus, Self::Manual];

    /// Its name in tables, files and APIs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OptOut => "opt_out",
            Self::Repep => "repep",
            Self::Reus => "reus",
            Self::Manual => "manual",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.name().eq_ignore_ascii_case(name))
    }

    /// Whether it stops advertising only: collections and answers to what somebody did go on.
    pub const fn stops_advertising_only(self) -> bool {
        match self {
            Self::Repep | Self::Reus => true,
            Self::OptOut | Self::Manual => false,
        }
    }

    /// From when it counts where nobody says: REPEP gives senders 30 days, all else counts at once.
    pub fn default_effect(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Repep => now.checked_add_days(Days::new(30)).unwrap_or(now),
            Self::OptOut | Self::Reus | Self::Manual => now,
        }
    }
}

/// A time, or the beginning of a day: `2026-01-31`, `31/01/2026`, RFC 3339. A day begins in UTC, hours before it does in
/// Mexico: too early is what nobody complains of.
pub fn parse_effect(text: &str) -> Option<DateTime<Utc>> {
    let day = |form| NaiveDate::parse_from_str(text, form).ok();
    let day = day("%Y-%m-%d").or_else(|| day("%d/%m/%Y"));
    let day = day.and_then(|day| day.and_hms_opt(0, 0, 0)).map(|time| time.and_utc());
    let time = day.or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()));
    time.filter(|time| (1990..2200).contains(&chrono::Datelike::year(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repep_counts_after_thirty_days_and_all_else_at_once() {
        let now = parse_effect("2026-01-31").expect("a day");
        assert_eq!(Cause::Repep.default_effect(now), parse_effect("02/03/2026").expect("a day"));
        assert_eq!(Cause::OptOut.default_effect(now), now);
        assert_eq!(Cause::Reus.default_effect(now), now);
        assert_eq!(Cause::parse("REPEP"), Some(Cause::Repep));
        assert_eq!(Cause::parse("reus"), Some(Cause::Reus));
        assert_eq!(Cause::parse("otro"), None);
    }

    #[test]
    fn days_and_times_are_read() {
        let read = |text| parse_effect(text).map(|time| time.to_rfc3339());
        assert_eq!(read("2026-01-31").as_deref(), Some("2026-01-31T00:00:00+00:00"));
        assert_eq!(read("31/01/2026").as_deref(), Some("2026-01-31T00:00:00+00:00"));
        assert_eq!(read("2026-01-31T00:00:00-06:00").as_deref(), Some("2026-01-31T06:00:00+00:00"));
        for wrong in ["", "mañana", "2026-13-01", "0026-01-01", "31-01-2026"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
