use std::sync::LazyLock;

use prometheus::{Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use sea_orm::sqlx::{self, PgPool};

use crate::Error;

pub(crate) struct Metrics {
    pub waiting: IntGauge,
    pub oldest_age: Gauge,
    pub published: IntCounterVec,
    pub failed: IntCounterVec,
    pub archived: IntCounterVec,
    pub letters_open: IntGaugeVec,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let counters = |name: &str, help: &str, labels: &[&str]| {
        let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric name");
        prometheus::default_registry().register(Box::new(counters.clone())).expect("registered once");
        counters
    };
    let metrics = Metrics {
        waiting: IntGauge::new("lote_outbox_waiting_rows", "Rows in the outbox, counted up to a million")
            .expect("a valid metric name"),
        oldest_age: Gauge::new("lote_outbox_oldest_age_seconds", "Age of the oldest row in the outbox")
            .expect("a valid metric name"),
        published: counters(
            "lote_outbox_published_total",
            "Rows that the broker confirmed and the relay deleted",
            &["destination"],
        ),
        failed: counters(
            "lote_outbox_failed_total",
            "Rows that the broker refused or could not route, put back for later",
            &["destination"],
        ),
        archived: counters(
            "lote_dead_letters_archived_total",
            "Dead letters moved from the broker into the table",
            &["queue", "reason"],
        ),
        letters_open: IntGaugeVec::new(
            Opts::new("lote_dead_letters_open", "Archived dead letters nobody has replayed or discarded"),
            &["queue"],
        )
        .expect("a valid metric name"),
    };
    let registry = prometheus::default_registry();
    registry.register(Box::new(metrics.waiting.clone())).expect("registered once");
    registry.register(Box::new(metrics.oldest_age.clone())).expect("registered once");
    registry.register(Box::new(metrics.letters_open.clone())).expect("registered once");
    metrics
});

pub(crate) fn metrics() -> &'static Metrics {
    &METRICS
}

pub(crate) fn init() {
    LazyLock::force(&METRICS);
}

/// Rows waiting and the oldest one's age in seconds. The count stops at a million: beyond it the figure
/// says no more, and counting would slow the relay down when it has most to do.
pub(crate) async fn backlog(pool: &PgPool) -> Result<(i64, f64), Error> {
    Ok(sqlx::query_as(
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT 1000000) AS counted),
                coalesce((SELECT extract(epoch FROM clock_timestamp() - created_at)::float8
                          FROM outbox ORDER BY id LIMIT 1), 0)",
    )
    .persistent(false)
    .fetch_one(pool)
    .await?)
}

/// Brings the gauges up to date. Every relay of a service shows the same figures: take the maximum.
pub(crate) async fn sample(pool: &PgPool) -> Result<(), Error> {
    let (waiting, oldest_age) = backlog(pool).await?;
    METRICS.waiting.set(waiting);
    METRICS.oldest_age.set(oldest_age);
    let open: Vec<(String, i64)> =
        sqlx::query_as("SELECT queue, count(*) FROM dead_letters WHERE state = 'open' GROUP BY queue")
            .fetch_all(pool)
            .await?;
    METRICS.letters_open.reset();
    for (queue, count) in open {
        METRICS.letters_open.with_label_values(&[&queue]).set(count);
    }
    Ok(())
}
