use std::sync::LazyLock;

use prometheus::{IntCounterVec, IntGaugeVec, Opts};

pub(crate) struct Metrics {
    /// Jobs that are not ended, by kind and state.
    pub live: IntGaugeVec,
    /// Ends and give-backs, by kind and what happened.
    pub outcomes: IntCounterVec,
    /// Nudges that a sweeper sent again.
    pub swept: IntCounterVec,
    /// Ended jobs that were deleted for their age.
    pub deleted: IntCounterVec,
    /// Mirror writes that Redis did not take.
    pub mirror_missed: prometheus::IntCounter,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let metrics = Metrics {
        live: IntGaugeVec::new(Opts::new("lote_jobs_live", "Jobs that have not ended"), &["kind", "state"])
            .expect("a valid metric name"),
        outcomes: IntCounterVec::new(
            Opts::new("lote_jobs_outcomes_total", "What became of claimed jobs"),
            &["kind", "outcome"],
        )
        .expect("a valid metric name"),
        swept: IntCounterVec::new(
            Opts::new("lote_jobs_swept_total", "Jobs that were due and nobody held, nudged again"),
            &["kind"],
        )
        .expect("a valid metric name"),
        deleted: IntCounterVec::new(
            Opts::new("lote_jobs_deleted_total", "Ended jobs that were deleted for their age"),
            &["kind"],
        )
        .expect("a valid metric name"),
        mirror_missed: prometheus::IntCounter::new(
            "lote_jobs_mirror_missed_total",
            "Progress that Redis did not take; PostgreSQL has it",
        )
        .expect("a valid metric name"),
    };
    let registry = prometheus::default_registry();
    registry.register(Box::new(metrics.live.clone())).expect("registered once");
    registry.register(Box::new(metrics.outcomes.clone())).expect("registered once");
    registry.register(Box::new(metrics.swept.clone())).expect("registered once");
    registry.register(Box::new(metrics.deleted.clone())).expect("registered once");
    registry.register(Box::new(metrics.mirror_missed.clone())).expect("registered once");
    metrics
});

pub(crate) fn metrics() -> &'static Metrics {
    &METRICS
}

pub(crate) fn init() {
    LazyLock::force(&METRICS);
}
