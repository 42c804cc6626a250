use std::time::Duration;

pub use chassis::config::Role;
use chassis::config::{Env, ServiceSettings};
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::SERVICE;

const DAY: u64 = 24 * 60 * 60;

/// The service's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every service has.
    pub common: ServiceSettings,
    /// Where clients reach S3, if not where we do.
    pub s3_public_endpoint: Option<String>,
    pub reports: ReportSettings,
}

/// How reports are made.
#[derive(Clone, Debug)]
pub struct ReportSettings {
    /// Files that one worker process makes at once.
    pub concurrency: usize,
    /// Messages of events that one worker process works on at once.
    pub ingest_concurrency: usize,
    /// How long a lease lasts without a sign of life. A dead worker's file waits so long for the next.
    pub lease: Duration,
    /// How long one delivery may work on a file.
    pub deadline: Duration,
    /// Attempts before a file fails.
    pub max_attempts: i32,
    /// Whose clock the times in files and names are of.
    pub zone: Tz,
    /// How long a run waits for what is known to be missing of its day before it begins without.
    pub wait: Duration,
    /// How long a presigned URL works.
    pub link: Duration,
    /// How long files are kept.
    pub file_retention: Duration,
    /// How many days campaigns and their rows are kept.
    pub row_days: u32,
}

impl Config {
    /// What each part documents. What is missing or wrong, `env` says.
    pub fn read(env: &mut Env, role: Role) -> Self {
        let port = match role {
            Role::Api => 3002,
            Role::Worker => 3012,
        };
        Self {
            common: ServiceSettings::read(env, SERVICE, port),
            s3_public_endpoint: env
                .optional_url("S3_PUBLIC_ENDPOINT_URL", &["http", "https"])
                .map(|url| url.expose().clone()),
            reports: ReportSettings::read(env),
        }
    }
}

impl ReportSettings {
    /// `REPORT_CONCURRENCY` (2), `REPORT_INGEST_CONCURRENCY` (8), `REPORT_LEASE_SECONDS` (30),
    /// `REPORT_DEADLINE_SECONDS` (3,600), `REPORT_MAX_ATTEMPTS` (10), `REPORT_TIME_ZONE` (America/Bogota),
    /// `REPORT_WAIT_SECONDS` (1,800), `REPORT_LINK_SECONDS` (900), `REPORT_FILE_DAYS` (90), `REPORT_ROW_DAYS` (1,100).
    pub fn read(env: &mut Env) -> Self {
        let mut days = |name: &str, default: u32| {
            let days = env.default(name, default, "a number of days from 1");
            if days == 0 {
                env.reject(name, "is 0, expected 1 or more");
            }
            days
        };
        let (file_days, row_days) = (days("REPORT_FILE_DAYS", 90), days("REPORT_ROW_DAYS", 1_100));
        Self {
            concurrency: env.default("REPORT_CONCURRENCY", 2, "a number of files"),
            ingest_concurrency: env.default("REPORT_INGEST_CONCURRENCY", 8, "a number of messages"),
            lease: env.seconds("REPORT_LEASE_SECONDS", Duration::from_secs(30)),
            deadline: env.seconds("REPORT_DEADLINE_SECONDS", Duration::from_secs(3_600)),
            max_attempts: env.default("REPORT_MAX_ATTEMPTS", 10, "a number of attempts"),
            zone: env.default(
                "REPORT_TIME_ZONE",
                chrono_tz::America::Bogota,
                "a time zone, as America/Bogota",
            ),
            wait: env.seconds("REPORT_WAIT_SECONDS", Duration::from_secs(1_800)),
            link: env.seconds("REPORT_LINK_SECONDS", Duration::from_secs(900)),
            file_retention: Duration::from_secs(u64::from(file_days) * DAY),
            row_days,
        }
    }

    /// The first day whose campaigns are kept.
    pub fn first_day(&self, now: DateTime<Utc>) -> NaiveDate {
        let today = now.with_timezone(&self.zone).date_naive();
        today.checked_sub_days(chrono::Days::new(self.row_days.into())).unwrap_or(NaiveDate::MIN)
    }

    /// Whether a day's campaigns are no longer kept.
    pub fn is_past(&self, day: NaiveDate, now: DateTime<Utc>) -> bool {
        day < self.first_day(now)
    }
}
