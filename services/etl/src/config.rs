use std::time::Duration;

pub use chassis::config::Role;
use chassis::config::{DatabaseSettings, Env, Secret, ServiceSettings};
use chrono::NaiveDate;
use chrono_tz::Tz;
use rust_decimal::Decimal;

use crate::{
    SERVICE,
    collections::{CollectionsSettings, bigquery::BigQuerySettings},
    domain::stream::Source,
};

/// The service's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every service has.
    pub common: ServiceSettings,
    pub etl: EtlSettings,
}

/// What `migrate` and `doctor` need.
#[derive(Clone, Debug)]
pub struct Tools {
    pub database: DatabaseSettings,
    pub bsale: Option<BsaleSettings>,
}

/// How syncs run.
#[derive(Clone, Debug)]
pub struct EtlSettings {
    /// Runs that one worker process has at once.
    pub concurrency: usize,
    /// How long a lease lasts without a sign of life. A dead worker's run waits so long for the next.
    pub lease: Duration,
    /// How long one delivery may work on a run; it goes on with the next.
    pub deadline: Duration,
    /// Attempts without progress before a run fails.
    pub max_attempts: i32,
    /// The zone of the schedules that a new installation begins with.
    pub zone: Tz,
    /// How long ended runs and quarantined records are kept.
    pub retention: Duration,
    /// None: this installation has no Bsale.
    pub bsale: Option<BsaleSettings>,
    /// None: this installation has no BigQuery.
    pub bigquery: Option<BigQuerySettings>,
    pub collections: CollectionsSettings,
}

/// Bsale, and the sales database that it is read into.
#[derive(Clone, Debug)]
pub struct BsaleSettings {
    /// The base of all requests: no other host is ever asked.
    pub url: url::Url,
    pub token: Secret<String>,
    /// `mysql://`, `mysql+pymysql://` or `postgres://`.
    pub database: Secret<String>,
    /// Requests a second of one token, over all workers.
    pub per_second: u32,
    /// How long one request may take.
    pub patience: Duration,
    /// The list whose prices are products' prices.
    pub price_list: i64,
    /// What a product costs that has no cost of its own: this much of its price.
    pub cost_factor: Decimal,
    /// The first day that there can be documents of.
    pub start: NaiveDate,
    /// Days that a daily run reads again.
    pub look_back: u32,
    /// Days whose totals a daily run compares with Bsale's.
    pub check_days: u32,
    /// The largest part of a table that a full scan marks as deleted, in percent.
    pub fuse_percent: u32,
    /// The last segment of the path of webhooks; none: they are refused.
    pub webhook_secret: Option<Secret<String>>,
    /// The company that webhooks must be of; none: any.
    pub company: Option<i64>,
}

impl Config {
    /// What each part documents. What is missing or wrong, `env` says.
    pub fn read(env: &mut Env, role: Role) -> Self {
        let port = match role {
            Role::Api => 3004,
            Role::Worker => 3014,
        };
        Self { common: ServiceSettings::read(env, SERVICE, port), etl: EtlSettings::read(env) }
    }
}

impl Tools {
    /// What the commands need that are no service.
    pub fn read(env: &mut Env) -> Self {
        Self { database: DatabaseSettings::read(env), bsale: BsaleSettings::read(env) }
    }
}

impl EtlSettings {
    /// `ETL_CONCURRENCY` (4), `ETL_LEASE_SECONDS` (30), `ETL_DEADLINE_SECONDS` (3,600), `ETL_MAX_ATTEMPTS` (10),
    /// `ETL_TIME_ZONE` (America/Santiago), `ETL_RETENTION_DAYS` (90), [`BsaleSettings::read`],
    /// [`BigQuerySettings::read`] and [`CollectionsSettings::read`].
    pub fn read(env: &mut Env) -> Self {
        let days: u32 = env.default("ETL_RETENTION_DAYS", 90, "a number of days");
        Self {
            concurrency: env.default("ETL_CONCURRENCY", 4, "a number of runs"),
            lease: env.seconds("ETL_LEASE_SECONDS", Duration::from_secs(30)),
            deadline: env.seconds("ETL_DEADLINE_SECONDS", Duration::from_secs(3_600)),
            max_attempts: env.default("ETL_MAX_ATTEMPTS", 10, "a number of attempts"),
            zone: env.default(
                "ETL_TIME_ZONE",
                chrono_tz::America::Santiago,
                "a time zone, as America/Santiago",
            ),
            retention: Duration::from_secs(u64::from(days) * 24 * 60 * 60),
            bsale: BsaleSettings::read(env),
            bigquery: BigQuerySettings::read(env),
            collections: CollectionsSettings::read(env),
        }
    }
}

impl EtlSettings {
    /// The first day that a source can have anything of.
    pub fn start(&self, source: Source) -> NaiveDate {
        let start = match source {
            Source::Bsale => self.bsale.as_ref().map(|bsale| bsale.start),
            Source::BigQuery => self.bigquery.as_ref().map(|bigquery| bigquery.start),
        };
        // Of a source that is not there nothing is ever read.
        start.unwrap_or_default()
    }
}

impl BsaleSettings {
    /// None where `ETL_BSALE` is false. Else `BSALE_API_TOKEN` and `SALES_DATABASE_URL` (both required),
    /// `BSALE_API_URL` (<https://api.bsale.io/v1>), `BSALE_REQUESTS_PER_SECOND` (8), `BSALE_TIMEOUT_SECONDS` (30),
    /// `PRICE_LIST_ID` (2), `COST_FACTOR` (0.65), `BSALE_START_DATE` (2010-01-01), `BSALE_LOOK_BACK_DAYS` (7),
    /// `BSALE_CHECK_DAYS` (30), `ETL_FUSE_PERCENT` (5), `BSALE_WEBHOOK_SECRET`, `BSALE_COMPANY_ID`.
    pub fn read(env: &mut Env) -> Option<Self> {
        if !env.flag("ETL_BSALE", true) {
            return None;
        }
        let given = env.optional_url("BSALE_API_URL", &["http", "https"]);
        let url = given.as_ref().map_or("https://api.bsale.io/v1", |url| url.expose().as_str());
        let url = match url::Url::parse(&format!("{}/", url.trim_end_matches('/'))) {
            Ok(url) => url,
            Err(error) => {
                env.reject("BSALE_API_URL", error);
                return None;
            }
        };
        let per_second = env.default("BSALE_REQUESTS_PER_SECOND", 8, "a number of requests");
        if per_second == 0 {
            env.reject("BSALE_REQUESTS_PER_SECOND", "is 0, expected 1 or more");
        }
        let start = NaiveDate::from_ymd_opt(2010, 1, 1).unwrap_or(NaiveDate::MIN);
        Some(Self {
            url,
            token: env.secret("BSALE_API_TOKEN", "Bsale's access token"),
            database: env.url("SALES_DATABASE_URL", &["mysql", "mysql+pymysql", "postgres", "postgresql"]),
            per_second,
            patience: env.seconds("BSALE_TIMEOUT_SECONDS", Duration::from_secs(30)),
            price_list: env.default("PRICE_LIST_ID", 2, "the id of a price list"),
            cost_factor: env.default("COST_FACTOR", Decimal::new(65, 2), "a factor, as 0.65"),
            start: env.default("BSALE_START_DATE", start, "a day, as 2010-01-01"),
            look_back: env.default("BSALE_LOOK_BACK_DAYS", 7, "a number of days"),
            check_days: env.default("BSALE_CHECK_DAYS", 30, "a number of days"),
            fuse_percent: env.default("ETL_FUSE_PERCENT", 5, "a percentage"),
            webhook_secret: env.optional_secret("BSALE_WEBHOOK_SECRET"),
            company: env.optional("BSALE_COMPANY_ID", "the company's number at Bsale"),
        })
    }
}
