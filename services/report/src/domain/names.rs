//! What files are called.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use super::params::{Compression, Format, Params};

/// The file of a campaign: `report_campaign_{id}_{YYYYMMDD_HHMMSS}.csv`, in local time.
pub fn of_campaign(campaign: i64, at: DateTime<Utc>, zone: Tz, params: &Params) -> String {
    format!("report_campaign_{campaign}_{}.{}", stamp(at, zone), extension(params))
}

/// The file with the totals of a day.
pub fn of_summary(day: NaiveDate, at: DateTime<Utc>, zone: Tz, params: &Params) -> String {
    format!("report_resumen_{}_{}.{}", day.format("%Y%m%d"), stamp(at, zone), extension(params))
}

fn stamp(at: DateTime<Utc>, zone: Tz) -> impl std::fmt::Display {
    at.with_timezone(&zone).format("%Y%m%d_%H%M%S")
}

fn extension(params: &Params) -> &'static str {
    match (params.format, params.compression) {
        (Format::Csv, Compression::None) => "csv",
        (Format::Csv, Compression::Gzip) => "csv.gz",
        (Format::Txt, Compression::None) => "txt",
        (Format::Txt, Compression::Gzip) => "txt.gz",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_campaign_time_and_kind() {
        let at = DateTime::from_timestamp(1_737_990_000, 0).expect("a time");
        let zone = chrono_tz::America::Bogota;
        let params = Params::default();
        assert_eq!(of_campaign(42, at, zone, &params), "report_campaign_42_20250127_100000.csv");
        let zipped = Params { format: Format::Txt, compression: Compression::Gzip, ..params };
        let day = NaiveDate::from_ymd_opt(2025, 1, 26).expect("a day");
        assert_eq!(of_summary(day, at, zone, &zipped), "report_resumen_20250126_20250127_100000.txt.gz");
    }
}
