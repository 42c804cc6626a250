//! What an operator sees of each queue, in `prometheus::default_registry()`.

use std::sync::{
    LazyLock,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use chrono::{DateTime, Utc};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    register_gauge_vec, register_histogram_vec, register_int_counter_vec, register_int_gauge_vec,
};

const ONCE: &str = "each name is registered once, in this file";

static DELIVERED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("lote_messages_delivered_total", "Messages given to a handler.", &["queue"])
        .expect(ONCE)
});
static SUCCEEDED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("lote_messages_succeeded_total", "Messages processed.", &["queue"]).expect(ONCE)
});
static RETRIED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "lote_messages_retried_total",
        "Attempts that failed and come again.",
        &["queue"]
    )
    .expect(ONCE)
});
static DEAD: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "lote_messages_dead_total",
        "Messages sent to the dead letters.",
        &["queue", "reason"]
    )
    .expect(ONCE)
});
static RELEASED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("lote_messages_released_total", "Messages given back unworked.", &["queue"])
        .expect(ONCE)
});
static GIVEN_UP: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "lote_messages_given_up_total",
        "Messages that went back to their queue because the broker did not take what became of them.",
        &["queue"]
    )
    .expect(ONCE)
});
static IN_FLIGHT: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!("lote_messages_in_flight", "Handlers at work.", &["queue"]).expect(ONCE)
});
static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "lote_handler_seconds",
        "How long handlers take.",
        &["queue"],
        vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0]
    )
    .expect(ONCE)
});
static DEPTH: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "lote_queue_depth",
        "Messages in the broker, by state: ready, in_flight, dead.",
        &["queue", "state"]
    )
    .expect(ONCE)
});
static OLDEST: LazyLock<GaugeVec> = LazyLock::new(|| {
    register_gauge_vec!(
        "lote_queue_oldest_age_seconds",
        "Age of the oldest job that waits for a worker; of a queue without jobs, of the oldest waiting message, as far \
         as this process has seen it.",
        &["queue"]
    )
    .expect(ONCE)
});
static KILL_SWITCH: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "lote_kill_switch_open",
        "1 while a queue is paused because its handlers fail wholesale.",
        &["queue"]
    )
    .expect(ONCE)
});
static OTHER_SETTINGS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "lote_queue_other_settings",
        "1 while a queue is there with other settings than this version's.",
        &["queue"]
    )
    .expect(ONCE)
});
static UP: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "lote_consumer_up",
        "1 while this process's consumer of a queue is connected to its broker.",
        &["queue"]
    )
    .expect(ONCE)
});
static LOST: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "lote_consumer_restarts_total",
        "Times a consumer lost its broker, or did not reach it.",
        &["queue"]
    )
    .expect(ONCE)
});
static PUBLISHED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "lote_messages_published_total",
        "Messages published, by outcome: confirmed, unavailable, unroutable, refused.",
        &["transport", "outcome"]
    )
    .expect(ONCE)
});
static SQS_CALLS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("lote_sqs_calls_total", "Calls of the SQS API.", &["queue", "operation"])
        .expect(ONCE)
});

/// The counters of one queue, looked up once.
pub(crate) struct QueueMetrics {
    queue: &'static str,
    pub delivered: IntCounter,
    pub succeeded: IntCounter,
    pub retried: IntCounter,
    pub released: IntCounter,
    pub given_up: IntCounter,
    pub in_flight: IntGauge,
    pub seconds: Histogram,
    pub kill_switch: IntGauge,
    pub restarts: IntCounter,
    pub other_settings: IntGauge,
    oldest: Gauge,
    /// When the message taken last was written, in milliseconds; 0 before the first.
    head: AtomicI64,
    /// Since when the oldest job waits, in milliseconds, as whoever knows the jobs says; 0: none waits.
    waiting_since: AtomicI64,
    /// Whether this process consumes the queue: its consumer looks how full it is.
    consumed: AtomicBool,
}

/// Nobody has said anything of jobs.
const UNTOLD: i64 = i64::MIN;

impl QueueMetrics {
    pub fn of(queue: &'static str) -> Self {
        let label = &[queue];
        Self {
            queue,
            delivered: DELIVERED.with_label_values(label),
            succeeded: SUCCEEDED.with_label_values(label),
            retried: RETRIED.with_label_values(label),
            released: RELEASED.with_label_values(label),
            given_up: GIVEN_UP.with_label_values(label),
            in_flight: IN_FLIGHT.with_label_values(label),
            seconds: SECONDS.with_label_values(label),
            kill_switch: KILL_SWITCH.with_label_values(label),
            restarts: LOST.with_label_values(label),
            other_settings: OTHER_SETTINGS.with_label_values(label),
            oldest: OLDEST.with_label_values(label),
            head: AtomicI64::new(0),
            waiting_since: AtomicI64::new(UNTOLD),
            consumed: AtomicBool::new(false),
        }
    }

    /// Whether this process's consumer is connected. Queues that it has no consumer of are not shown.
    pub fn consumer_up(&self, up: bool) {
        self.consumed.store(true, Ordering::Relaxed);
        UP.with_label_values(&[self.queue]).set(up.into());
    }

    /// Whether this process has a consumer of the queue.
    pub fn is_consumed(&self) -> bool {
        self.consumed.load(Ordering::Relaxed)
    }

    pub fn dead(&self, reason: &str) {
        DEAD.with_label_values(&[self.queue, reason]).inc();
    }

    /// A message written at `time` has been taken.
    pub fn took(&self, time: DateTime<Utc>) {
        self.head.store(time.timestamp_millis(), Ordering::Relaxed);
    }

    /// Of the jobs whose messages go there, the oldest that waits does so since then.
    pub fn jobs_wait(&self, since: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        self.waiting_since.store(since.map_or(0, |since| since.timestamp_millis()), Ordering::Relaxed);
        if let Some(age) = self.oldest_age(since.is_some(), now) {
            self.oldest.set(age.as_secs_f64());
        }
    }

    /// The age of what waits. No broker tells the age of a queue's head. Where jobs are told of, it is theirs; else,
    /// queues being first in, first out, it is at most that of the message taken last.
    pub fn oldest_age(&self, waiting: bool, now: DateTime<Utc>) -> Option<std::time::Duration> {
        let age = |since: i64| {
            std::time::Duration::from_millis((now.timestamp_millis() - since).max(0).unsigned_abs())
        };
        match (self.waiting_since.load(Ordering::Relaxed), self.head.load(Ordering::Relaxed)) {
            (0, _) => Some(std::time::Duration::ZERO),
            (UNTOLD, _) if !waiting => Some(std::time::Duration::ZERO),
            (UNTOLD, head) => (head > 0).then(|| age(head)),
            (since, _) => Some(age(since)),
        }
    }

    pub fn depth(&self, depth: &crate::Depth) {
        for (state, count) in [("ready", depth.ready), ("in_flight", depth.in_flight), ("dead", depth.dead)] {
            DEPTH.with_label_values(&[self.queue, state]).set(count.cast_signed());
        }
        if let Some(age) = depth.oldest_age {
            self.oldest.set(age.as_secs_f64());
        }
    }
}

pub(crate) fn published(transport: &str, outcome: &str) {
    PUBLISHED.with_label_values(&[transport, outcome]).inc();
}

pub(crate) fn given_up(queue: &str, messages: usize) {
    GIVEN_UP.with_label_values(&[queue]).inc_by(messages as u64);
}

pub(crate) fn sqs_call(queue: &str, operation: &str) {
    SQS_CALLS.with_label_values(&[queue, operation]).inc();
}

/// Calls of the SQS API that this process has made for a queue, by its logical name. Operations are
/// `send`, `receive`, `delete`, `postpone`, `keep`, `bury` and some that are not made for each message.
pub fn sqs_calls(queue: &str, operation: &str) -> u64 {
    SQS_CALLS.with_label_values(&[queue, operation]).get()
}
