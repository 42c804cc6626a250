//! The service's figures.

use std::sync::LazyLock;

use prometheus::{
    GaugeVec, HistogramVec, IntCounter, IntCounterVec, register_gauge_vec, register_histogram_vec,
    register_int_counter, register_int_counter_vec,
};

use crate::domain::stream::Stream;

/// Requests to sources, by source and status.
pub static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "etl_source_requests_total",
        "Requests to sources, by outcome",
        &["source", "outcome"]
    )
    .expect("registered once, with a valid name")
});

/// How long a source takes to answer.
pub static REQUEST_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!("etl_source_request_seconds", "Seconds until a source has answered", &["source"])
        .expect("registered once, with a valid name")
});

/// Rows, by stream and what became of them.
pub static ROWS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("etl_rows_total", "Rows by stream and outcome", &["stream", "outcome"])
        .expect("registered once, with a valid name")
});

/// How old what a stream has is, by stream. All processes of the service show the same.
pub static WATERMARK_AGE: LazyLock<GaugeVec> = LazyLock::new(|| {
    register_gauge_vec!(
        "etl_watermark_age_seconds",
        "Seconds since a stream's watermark: everything before it is in the tables",
        &["stream"]
    )
    .expect("registered once, with a valid name")
});

/// Webhooks, by what became of them.
pub static WEBHOOKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("etl_webhooks_total", "Webhooks by outcome", &["outcome"])
        .expect("registered once, with a valid name")
});

/// Answers that were there already, by dashboard.
pub static CACHE_HITS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("cache_hits_total", "Answers that were there already", &["cache_type"])
        .expect("registered once, with a valid name")
});

/// Answers that had to be computed, by dashboard.
pub static CACHE_MISSES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("cache_misses_total", "Answers that had to be computed", &["cache_type"])
        .expect("registered once, with a valid name")
});

/// Queries that were begun at BigQuery.
pub static BIGQUERY_QUERIES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("bigquery_queries_total", "Queries that were begun at BigQuery")
        .expect("registered once, with a valid name")
});

/// Makes them known before anything happens.
pub fn init(streams: impl Iterator<Item = &'static Stream>) {
    for stream in streams {
        for outcome in ["inserted", "updated", "same", "deleted", "quarantined"] {
            ROWS.with_label_values(&[stream.name, outcome]);
        }
    }
    for outcome in ["accepted", "repeated", "refused"] {
        WEBHOOKS.with_label_values(&[outcome]);
    }
    for dashboard in ["dashboard", "evolution", "assignment", "operation", "productivity"] {
        CACHE_HITS.with_label_values(&[dashboard]);
        CACHE_MISSES.with_label_values(&[dashboard]);
    }
    LazyLock::force(&BIGQUERY_QUERIES);
    LazyLock::force(&REQUESTS);
    LazyLock::force(&REQUEST_SECONDS);
}
