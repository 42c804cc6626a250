use std::{collections::BTreeMap, time::Duration};

use chassis::config::Env;
use chrono::NaiveDate;
use serde::Deserialize;

use super::ServiceAccount;

/// Where the collections come from.
#[derive(Clone, Debug)]
pub struct BigQuerySettings {
    /// The base of all requests, with a slash at its end.
    pub url: url::Url,
    pub project: String,
    /// Where the dataset is, as `US`; none: BigQuery finds out.
    pub location: Option<String>,
    /// Of tables that are named without one.
    pub dataset: String,
    /// None: requests carry no token.
    pub account: Option<ServiceAccount>,
    /// A query that would read more fails. None: no limit.
    pub maximum_bytes_billed: Option<u64>,
    /// Rows a page, at most.
    pub page_rows: u32,
    /// Requests a second of one credential, over all workers.
    pub per_second: u32,
    /// How long one request may take.
    pub patience: Duration,
    /// What differs from the users' names, by stream.
    pub tables: BTreeMap<String, SourceTable>,
    /// The first day that there are rows of.
    pub start: NaiveDate,
    /// Days before the watermark that a daily run reads again.
    pub look_back: u32,
    /// Days before today that a run compares with the source's, beside those it reads anyway; 0: none.
    pub check_days: u32,
    /// How far behind the source's clock a run stays: rows that are being written there have their time to come.
    pub lag: Duration,
    /// The largest part of a slice that a run marks as deleted, in percent.
    pub fuse_percent: u32,
}

/// A stream's source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceTable {
    /// `table`, `dataset.table` or `project.dataset.table`.
    pub table: Option<String>,
    /// Instead of a table: a whole query, in GoogleSQL, with `@desde` and `@hasta` where the stream has slices.
    pub sql: Option<String>,
    /// The type of the cursor's column where it is not TIMESTAMP: DATETIME or DATE.
    pub cursor_type: Option<String>,
}

impl BigQuerySettings {
    /// None where `BIGQUERY_PROJECT_ID` is missing. Else `BIGQUERY_DATASET` (required); `BIGQUERY_CREDENTIALS_FILE` (the
    /// JSON of a service account) unless `BIGQUERY_ANONYMOUS` is true; `BIGQUERY_URL` (<https://bigquery.googleapis.com>),
    /// `BIGQUERY_LOCATION`, `BIGQUERY_MAXIMUM_BYTES_BILLED`, `BIGQUERY_PAGE_ROWS` (10,000), `BIGQUERY_REQUESTS_PER_SECOND`
    /// (50: half of what Google lets one user send), `BIGQUERY_TIMEOUT_SECONDS` (60),
    /// `COLLECTIONS_TABLES` (JSON by stream, as `{"pagos": {"table": "pagos_v2"}}`), `COLLECTIONS_START_DATE` (2024-01-01),
    /// `COLLECTIONS_LOOK_BACK_DAYS` (7), `COLLECTIONS_CHECK_DAYS` (30), `COLLECTIONS_LAG_SECONDS` (300),
    /// `ETL_FUSE_PERCENT` (5).
    pub fn read(env: &mut Env) -> Option<Self> {
        let project = env.optional::<String>("BIGQUERY_PROJECT_ID", "a project's id")?;
        let given = env.optional_url("BIGQUERY_URL", &["http", "https"]);
        let base = given.as_ref().map_or("https://bigquery.googleapis.com", |url| url.expose().as_str());
        let url = url::Url::parse(&format!("{}/", base.trim_end_matches('/')));
        let url = url.inspect_err(|error| env.reject("BIGQUERY_URL", error)).ok()?;
        let account = if env.flag("BIGQUERY_ANONYMOUS", false) {
            None
        } else {
            let file: String =
                env.required("BIGQUERY_CREDENTIALS_FILE", "the path of a service account's JSON");
            match ServiceAccount::read(&file) {
                Ok(account) => Some(account),
                Err(error) => {
                    env.reject("BIGQUERY_CREDENTIALS_FILE", format!("{error:#}"));
                    None
                }
            }
        };
        let tables: String = env.default("COLLECTIONS_TABLES", "{}".to_owned(), "JSON");
        let tables = serde_json::from_str(&tables).unwrap_or_else(|error| {
            env.reject("COLLECTIONS_TABLES", error);
            BTreeMap::new()
        });
        let page_rows = env.default("BIGQUERY_PAGE_ROWS", 10_000, "a number of rows");
        if page_rows == 0 {
            env.reject("BIGQUERY_PAGE_ROWS", "is 0, expected 1 or more");
        }
        let per_second = env.default("BIGQUERY_REQUESTS_PER_SECOND", 50, "a number of requests");
        if per_second == 0 {
            env.reject("BIGQUERY_REQUESTS_PER_SECOND", "is 0, expected 1 or more");
        }
        let start = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap_or(NaiveDate::MIN);
        Some(Self {
            url,
            project,
            location: env.optional("BIGQUERY_LOCATION", "a location, as US"),
            dataset: env.required("BIGQUERY_DATASET", "a dataset's id"),
            account,
            maximum_bytes_billed: env.optional("BIGQUERY_MAXIMUM_BYTES_BILLED", "a number of bytes"),
            page_rows,
            per_second,
            patience: env.seconds("BIGQUERY_TIMEOUT_SECONDS", Duration::from_secs(60)),
            tables,
            start: env.default("COLLECTIONS_START_DATE", start, "a day, as 2024-01-01"),
            look_back: env.default("COLLECTIONS_LOOK_BACK_DAYS", 7, "a number of days"),
            check_days: env.default("COLLECTIONS_CHECK_DAYS", 30, "a number of days"),
            lag: env.seconds("COLLECTIONS_LAG_SECONDS", Duration::from_secs(300)),
            fuse_percent: env.default("ETL_FUSE_PERCENT", 5, "a percentage"),
        })
    }
}
